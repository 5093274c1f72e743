"""What of a captioner's text is its answer: not its reasoning, not its special tokens, and not a refusal."""

from __future__ import annotations

import re

_NAMES = "think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratchpad|seed:think|thought_process"
_OPEN = (
    rf"<(?:{_NAMES})(?:\s[^<>]{{0,80}})?>|\[(?:think|thinking)\]|◁think▷|<\|?begin_of_(?:thought|thinking)\|?>"
    r"|<\|start_thinking\|>|<unused94>(?:thought)?"
)
_CLOSE = (
    rf"</\s?(?:{_NAMES})\s?>|\[/(?:think|thinking)\]|◁/think▷|<\|?end_of_(?:thought|thinking)\|?>"
    r"|<\|end_thinking\|>|<unused95>"
)
_REASONING = re.compile(f"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)

_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)[^<]*<\|message\|>(?P<text>.*?)(?=<\|(?!message)\w+\|>|\Z)", re.DOTALL
)
"""Messages of OpenAI's harmony format: the answer is in the channel "final"."""
_BARE_CHANNEL = re.compile(r"\A\s*(?:assistant)?(?:analysis|commentary)(?:.*?assistantfinal|(?=[A-Z]).*\Z)", re.DOTALL)
"""The same with its special tokens left out: analysisWe need to …assistantfinalsofa, lamp."""

_ANSWER = re.compile(
    r"<(?P<name>answer|final_answer|output|response)>(?P<text>.*?)(?:</(?P=name)>|\Z)", re.DOTALL | re.I
)
_HEADING = re.compile(
    r"\A\W*(?:my |chain of )?(?:thoughts?|thinking|reasoning|analysis)(?: process)?\W*(?::|\n)", re.IGNORECASE
)
_RESULT = re.compile(r"^\W*(?:the |my )?(?:final )?(?:answer|output|result|list)(?: is)?\W*:", re.IGNORECASE | re.M)
_SPECIAL = re.compile(r"<\|[^<>]{0,60}\|>|</?s>|<(?:eos|bos|pad|unk|(?:start|end)_of_[a-z]{1,20})>|<end_of_utterance>")
_MARKUP = re.compile(r"</?[a-z][a-z0-9]{0,12}(?:\s[^<>]{0,200})?/?>", re.IGNORECASE)

_SAYER = r"(?:i|we)(?:['’]?m|\s+am|['’]re|\s+are)?\s+(?:(?:so|very|really|truly|just|currently|simply)\s+)*"
_REFUSAL = re.compile(
    rf"\b{_SAYER}(?:sorry|afraid|unable|not\s+(?:able|allowed|permitted|comfortable)|forbidden|prohibited)\b"
    rf"|\b{_SAYER}(?:can\s?not|can['’]?t|could\s?n['’]?t|could\s+not|won['’]?t|will\s+not|(?:must|have\s+to)\s+(?:decline|refuse)"
    r"|decline|refuse|don['’]?t\s+have\s+(?:access|the\s+ability)|do\s+not\s+have\s+(?:access|the\s+ability)"
    r"|(?:don['’]?t|do\s+not)\s+see\s+(?:an?|any|the)\s+(?:image|picture|photo))\b"
    r"|\A\W*(?:i\s+|my\s+|we\s+)?(?:sorry|apolog\w+|unfortunately|regrettably)\b"
    r"|\A\W*as\s+an?\s+(?:ai|artificial|(?:large\s+)?language|(?:ai\s+)?assistant)\b"
    r"|\b(?:against|violat\w+)\s+(?:my|our|the|openai\S*)\s+(?:\w+\s+)?(?:guidelines?|polic\w+|programming|rules)\b"
    r"|\A\W*(?:please\s+(?:provide|upload|share|attach)|(?:there\s+(?:is|was)\s+)?no\s+image\s+(?:was|has|is|provided|attached))"
    r"|\A\W*(?:es\s+tut\s+mir|leider\b|ich\s+kann|lo\s+siento|no\s+puedo|je\s+(?:suis\s+désol|ne\s+peux)|désolé|mi\s+dispiace"
    r"|non\s+posso|desculp|não\s+posso|к\s+сожалению|извините|抱歉|很抱歉|对不起|對不起|申し訳|すみません|죄송)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s|\n")


def final_answer(raw: str) -> str:
    """The text of `raw` without what a model thought aloud: what stands between tags such as ``<think>`` and
    ``</think>`` (also when the first was part of the prompt, or the last never came), in other channels than the final
    one, or below a heading such as "Reasoning:". Special tokens and markup are left out too; empty if nothing is left.
    """
    text = _BARE_CHANNEL.sub("", raw)
    if "<|channel|>" in text:
        text = "\n".join(found["text"] for found in _CHANNEL.finditer(text) if found["name"].lower() == "final")
    text = _outside_reasoning(text)
    answers = [found["text"] for found in _ANSWER.finditer(text)]
    text = answers[-1] if answers else text
    if _HEADING.match(text):
        results = list(_RESULT.finditer(text))
        text = text[results[-1].end() :] if results else ""
    return _MARKUP.sub("\n", _SPECIAL.sub(" ", text)).strip()


def is_refusal(answer: str) -> bool:
    """Whether the first sentence of an answer says that the model does not answer: an apology, "I can't …", "As an AI",
    a policy, a missing image."""
    first = next((part for part in _SENTENCE_END.split(answer.strip()) if part.strip()), "")
    return _REFUSAL.search(first) is not None


def _outside_reasoning(text: str) -> str:
    kept, depth, start = "", 0, 0
    for mark in _REASONING.finditer(text):
        if depth == 0:
            kept = kept + text[start : mark.start()] + "\n" if mark["open"] else ""
        depth = max(depth + (1 if mark["open"] else -1), 0)
        start = mark.end()
    return kept + text[start:] if depth == 0 else kept
