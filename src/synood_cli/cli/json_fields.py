"""What each command's --json document holds, for docs/cli.md; a test compares it with real documents."""

from __future__ import annotations

_STAGE = {
    "artifact": "name of the artifact, kind@N",
    "stage": "the command that made it",
    "reused": "true when it was there already",
    "done": "items finished",
    "failed": "items that could not be worked on; the exit code is 3 when there are any",
    "seconds": "time worked on it, interrupted runs included",
}

_PASSED_OVER = {
    "passed_over": "files beside the images that were not looked at: files (how many), endings (how many of each "
    "ending; '' without one), names (the first few)",
}

PLAN = {
    "stage": "the command",
    "action": "make, resume or reuse",
    "artifact": "what would be reused or gone on with; for a new one, its kind",
    "items": "items in all",
    "done": "items that are finished already",
    "inputs": "artifacts to read, by role",
    "models": "models to use, by role",
    "settings": "settings of the stage, as they would be recorded",
}
"""The document of any stage's --dry-run."""

STREAM = {
    "output": "the file",
    "head": "the head, as it was named",
    "threshold": "η: in-distribution iff the score reaches it",
    "done": "images that were scored",
    "ood": "of these, out-of-distribution",
    "failed": "images that could not be read; the exit code is 3 when there are any",
    "stuck": "out-of-distribution images that could not be moved or copied; likewise",
    "skipped": "images that had their row already",
    "known_ood": "of these, out-of-distribution",
    "known_failed": "of these, not readable then",
    **_PASSED_OVER,
}
"""The document of `synood score -o FILE`, and of every other stream of scores."""

JSON_FIELDS: dict[str, dict[str, str]] = {
    "init": {"workspace": "its folder", "created": "false when it was there already"},
    "select": _STAGE | _PASSED_OVER,
    "caption": _STAGE,
    "synthesize": _STAGE,
    "mine-labels": _STAGE
    | {
        "explained": "one object a word of --explain and part of speech: label, part_of_speech, kept, similarity (its "
        "percentile), rank (1 = least similar; null when it names a class), of, keeps (so many are kept), cut (the "
        "percentile of the last kept), nearest (label, similarity), rule"
    },
    "train-proj": _STAGE,
    "train-labels": _STAGE,
    "eval": _STAGE
    | _PASSED_OVER
    | {
        "rows": "one object a method, head and dataset (an OOD set, average, or average GROUP of a suite): method, "
        "head (of MCM: empty, or where heads have several CLIPs or label texts, the one that it is on), clip, model "
        "(a baseline's classifier), adapts (true: it learned from the test images), dataset, auroc, auroc_low, "
        "auroc_high, fpr95, fpr95_low, fpr95_high, fpr95_positive (ind or ood: the convention), fpr95_other (under the "
        "other convention), aupr_in, aupr_out, ind_accuracy, ind_images, ood_images; shares from 0 to 1",
        "differences": "one object a method, head and dataset: method, head, against_method, against_head (MCM and a "
        "head are compared on that head's own CLIP), dataset, and of auroc and fpr95 the difference (auroc), its "
        "paired interval (auroc_low, auroc_high) and whether that leaves out 0 (auroc_excludes_zero)",
        "resources": "one object a head: head, method, added_parameters (beside NegLabel's), learned_parameters (tuned "
        "label features too), clip_parameters; with --timing device, milliseconds, neglabel_milliseconds per image",
        "published": "with --compare published, the paper's results: method, backbone, suite, dataset, auroc, fpr95, "
        "fpr95_positive, adapts, source",
    },
    "score": _STAGE
    | _PASSED_OVER
    | {
        "threshold": "η: in-distribution iff the score reaches it",
        "rows": "one object an image: path, score (higher = more in-distribution), decision (ind or ood), "
        "predicted_class, nearest_negative, nearest_similarity, error (null unless it failed)",
    },
    "calibrate": _STAGE
    | _PASSED_OVER
    | {
        "threshold": "η of the new head",
        "images": "images that it was set on",
        "source": "name of their folder",
        "tpr": "the share that was asked for",
        "achieved": "the share that reaches it",
        "low": "low end of the exact binomial interval of that share",
        "high": "high end",
        "level": "level of the interval",
    },
    "export": {
        "file": "the ONNX file",
        "bytes": "its size",
        "head": "the head that is in it",
        "images": "images that it was checked on",
        "score_difference": "largest difference of a score between ONNX Runtime and torch",
        "similarity_difference": "the same of a nearest similarity",
        "left_out": "path → reason of the images of --check that could not be read",
        **_PASSED_OVER,
    },
    "sweep": _STAGE
    | {
        "rows": "one object a cell and dataset (an OOD set, or average): variant, m (null: all images), seed, dataset, "
        "method, head, synthetic, eval (artifacts), auroc, fpr95, fpr95_positive, ind_accuracy; shares from 0 to 1",
        "summary": "one object a variant, m and dataset: variant, m, dataset, seeds (how many), auroc and fpr95 "
        "(means), auroc_sd and fpr95_sd (standard deviations with n - 1; null for one seed), auroc_sd_n and fpr95_sd_n "
        "(with n); with --dry-run the document is instead of stage and cells: variant, m, seed, steps (of stage, "
        "action: make, resume, reuse, share or fail, artifact)",
    },
    "suites": {
        "suite": "its name; of `suites list` the document is a list",
        "dataset": "an image set of it: ind, or the name of an OOD set",
        "group": "the group that an OOD set is averaged in too, or empty",
        "images": "how many images it must have; null = any number",
        "found": "`suites check` alone: how many usable images it has; null when it is missing",
        "differences": "`suites check` alone: in what it is not as it must be",
    },
    "push": {
        "address": "repository with the commit, or folder, as `synood pull` takes it; on a dry run without the commit",
        "pushed": "false on a dry run",
        "files": "bytes of each file, by name",
    },
    "pull": _STAGE,
    "log": {
        "artifact": "name of the artifact; a list; with NAME of it and what it comes from, the newest first",
        "stage": "the command that made it",
        "status": "complete or unfinished",
        "done": "items finished",
        "failed": "items that could not be worked on",
        "inputs": "artifacts it was made from, by role",
        "created_at": "when it was begun, UTC",
        "finished_at": "when it was finished, UTC; null if it is not",
        "seconds": "time worked on it",
    },
    "show": {
        "artifact": "name of the artifact; with --failures the document is a list of item and reason",
        "stage": "the command that made it",
        "status": "complete or unfinished",
        "done": "items finished",
        "failed": "items that could not be worked on",
        "seconds": "time worked on it",
        "created_at": "when it was begun, UTC",
        "finished_at": "when it was finished, UTC; null if it is not",
        "synood": "version that made it",
        "seed": "seed of the run",
        "settings": "settings of the stage",
        "inputs": "artifacts it was made from, by role",
        "models": "adapter, name, pretrained and revision of each model, by role",
        "notes": "what the stage found out",
        "files": "number of files",
        "bytes": "their size",
        "folder": "where they lie",
        "identity": "hash of the question: stage, settings, inputs, models, seed",
        "digest": "hash of the content",
        "content": "count and first rows (sample) of each table with rows of it",
    },
    "report": {
        "page": "path of the HTML file",
        "artifact": "name of the artifact that it is about",
        "parts": "names of the page's parts: detection, synthesis, labels, losses, failures, lineage",
    },
    "verify": {
        "artifacts": "complete artifacts that were checked",
        "problems": "objects of where and what; the exit code is 1 when there are any",
    },
    "gc": {
        "dry_run": "whether anything was removed",
        "bytes": "size in all",
        "removed": "objects of what (an artifact or a path), why, bytes",
    },
    "doctor": {
        "versions": "of synood, Python and the libraries",
        "devices": "objects of device, name, bytes (memory)",
        "hub": "the model cache and whether downloads are off",
        "workspace": "workspace (its folder or null), state, free (bytes)",
        "models": "objects of role, name, where",
    },
    "playground": {
        "folder": "where the images are",
        "seed": "of the world",
        "images": "number of images, by folder of a set, such as test/ood/far",
    },
}

JSON_FIELDS["demo"] = JSON_FIELDS["eval"]  # the one that it ends with
