"""Reasoning and refusals are no elements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.method.answers import final_answer, is_refusal
from synood_cli.method.elements import parse_elements

REASONING = "The user wants a list. The main object must not be named. I can see a red sofa, and maybe a lamp."


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("<THINK>", "</Think>"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("<reasoning>", "</reasoning>"),
        ("<reason>", "</reason>"),
        ("<analysis>", "</analysis>"),
        ("<reflection>", "</reflection>"),
        ("<scratchpad>", "</scratchpad>"),
        ('<think type="long">', "</think>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<unused94>thought", "<unused95>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("analysis", "assistantfinal"),
    ],
)
def test_reasoning_is_left_out_whether_it_ends_or_not(opening: str, closing: str) -> None:
    assert parse_elements(f"{opening}\n{REASONING}\n{closing}\n\nsofa, lamp, window") == ["sofa", "lamp", "window"]
    assert parse_elements(f"{opening}{REASONING}{closing}sofa, lamp, window") == ["sofa", "lamp", "window"]
    assert parse_elements(f"{opening}{REASONING}") == []


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (f"{REASONING}</think>\nsofa, lamp", "sofa, lamp"),
        ("sofa, lamp\n<think>was that all?</think>", "sofa, lamp"),
        ("<think>a <think>b</think> c</think>sofa", "sofa"),
        ("<think>a</think>so <think>b</think>sofa", "so \nsofa"),
        ("<think></think>sofa", "sofa"),
        ("<think>", ""),
        ("</think>", ""),
        ("<think>x</think><answer>sofa, lamp</answer>", "sofa, lamp"),
        ("<answer>sofa, la", "sofa, la"),
        ("<|begin_of_box|>sofa, lamp<|end_of_box|>", "sofa, lamp"),
        ("sofa, lamp<|im_end|>", "sofa, lamp"),
        ("sofa, lamp</s>", "sofa, lamp"),
        ("<|channel|>final<|message|>sofa<|return|>", "sofa"),
        ("<|channel|>analysis<|message|>the list", ""),
        ("<|channel|>commentary to=x<|message|>y<|end|><|channel|>final<|message|>sofa", "sofa"),
        ("**Reasoning:** I see a sofa.\n\n**Final answer:** sofa, lamp", "** sofa, lamp"),
        ("Thought: I see things.\nThe answer is: lamp, sofa", "lamp, sofa"),
        ("Thinking process:\nI see a sofa", ""),
        ("The elements are: a sofa", "The elements are: a sofa"),
        ("<ul><li>sofa</li></ul>", "sofa"),
        ("a < b, c > d", "a < b, c > d"),
    ],
)
def test_the_answer_in_a_text(raw: str, answer: str) -> None:
    assert final_answer(raw) == answer


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "sofa", ", ", "<|channel|>", "final", "<|message|>", "analysis"]))
)
def test_no_mixture_leaves_a_tag(parts: list[str]) -> None:
    answer = final_answer("".join(parts))
    assert not any(tag in answer for tag in ("<think>", "</think>", "<|"))


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with identifying elements in this image.",
        "I’m sorry, but I can’t assist with that.",
        "Sorry, I cannot do this.",
        "I apologize, but I am unable to view images.",
        "My apologies: no.",
        "I cannot identify people in images",
        "I can't help with that request.",
        "I am not able to process this picture.",
        "I'm unable to provide a list.",
        "I'm really not comfortable describing this.",
        "Unfortunately, I can't see the picture.",
        "As an AI language model, I do not have the ability to see.",
        "As a language model I only read text.",
        "I won't describe this image.",
        "I must decline.",
        "I don't see an image in your message.",
        "Please provide the image you want described.",
        "No image was provided.",
        "This request is against our content policy.",
        "This violates the usage policies.",
        '{"error": "I cannot help with this."}',
        "**I'm sorry**, I can't.",
        "Es tut mir leid, ich kann dabei nicht helfen.",
        "Lo siento, no puedo ayudar con eso.",
        "Je suis désolé, je ne peux pas.",
        "抱歉，我无法识别图片。",
    ],
)
def test_refusals(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "sofa, lamp, window",
        "Sure! Here are the elements: sky, grass. Sorry if I missed one.",
        "There are no other elements.",
        "None",
        "I can see a sofa, a lamp and a window.",
        "In the image, I see a canoe.",
        "a sorry sight, an apology letter",
        "soda can, watering can, I-beam",
        "As a background, there are trees",
        "1. window\n2. can\n3. AI poster",
        "",
    ],
)
def test_answers_are_no_refusals(answer: str) -> None:
    assert not is_refusal(answer)
