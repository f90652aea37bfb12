"""What people read in MemStab's pages, as far as it is fixed; `localizations/` has it in other languages.

The WebUI translates in the browser, text by text, where the whole text is known. Sentences with a name or a number in
them stay English. The gallery's texts are in `javascript/memstab_words.js`, which fills in names and numbers itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib_memstab.evidence.audit import STATES
from lib_memstab.evidence.audit_table import HEADS
from lib_memstab.evidence.live import names
from lib_memstab.host.tab import attacking, catalogue, extracting, verifying, working
from lib_memstab.host.tab.form import FIELDS, NO_TEXT
from lib_memstab.settings import TABLE

WHICH = "Which profile applies?"
CALIBRATE_THIS = "Calibrate this checkpoint"
STOP_CALIBRATION = "Stop calibration"
NOT_LOADED = "No checkpoint is loaded yet."

HELD_BACK = (
    "MemStab did not save flagged images: they are in the gallery only. Whether they are saved is a choice in "
    "Settings, MemStab."
)

PRESET = "Preset"
PRESET_HELP = "Sets the panel."
PRESET_NAME = "Name of the preset"
PRESET_NAME_HELP = "To save what the panel has. Empty: over the chosen one."
SAVE_PRESET = "Save preset"
DELETE_PRESET = "Delete preset"
NO_PRESET = "Choose a preset first."

CALIBRATE = "Calibrate"
STOP = "Stop"
START_OVER = "Start over"
PROMPTS = "Your own prompts, if you have some: a .txt, one a line"
KEPT = (
    "What was measured until Stop is kept: Calibrate goes on from there if the fields are the same, Start over "
    "measures everything again."
)
REFRESH = "Refresh"
BUSY = "A calibration is on its way already: stop it first."
STOPPING = "Stopping."
IDLE = "No calibration is on its way."

PROFILES = "Profiles"
PROFILE = "Profile"
COMPARE_WITH = "Compare with"
COMPARE = "Compare"
NEW_NAME = "New name"
RENAME = "Rename"
DELETE = "Delete"
EXPORT = "Export"
IMPORT = "Import"
DOWNLOAD = "To download"
UPLOAD = "A profile to import"
REPLACE = "Replace one of the same name"

LEARNED = "Learned"
FORGET_TODAY = "Forget what was learned today"
FORGET_ALL = "Forget everything"
ARMED = "Click once more to forget everything that was learned about this checkpoint."
NOT_LEARNING = "MemStab does not learn now. Whether MemStab learns is a switch in Settings, MemStab."
LEARNING = (
    "MemStab learns from every image that it watches and does not flag. Whether MemStab learns is a switch in "
    "Settings, MemStab."
)


AUDIT = "Audit"
FOLDER = "Folder"
EVERYTHING = "All output folders"
RECURSIVE = "Folders in it too"
ONLY = "List only"
LOOK_THROUGH = "Look through"
STOP_LOOKING = "Stop looking"
NO_FOLDERS = "None of the WebUI's output folders is there yet."
NO_PICTURES = "There are no pictures."

EVIDENCE = "Evidence"
EVIDENCE_IS = (
    "Checks MemStab on the loaded checkpoint with prompts of yours: how many pictures are flagged, how many copies are "
    "left, and whether all others stay as they are, pixel by pixel."
)
MEMORIZED = verifying.MEMORIZED
PASTED = "Or paste such prompts here, one a line"
ORDINARY = verifying.ORDINARY
VERIFY = "Verify"
GO_ON = "Go on"
MADE_KEPT = (
    "Every picture is made three times: without MemStab, in detect and in suppress mode. What was made until Stop is "
    "kept: Go on takes up the verification that was stopped last, Verify that of the same fields, Start over makes all "
    "pictures again."
)
IN_BETWEEN = (
    "No picture is saved. You can generate meanwhile: your pictures come in between. The WebUI's Interrupt stops a "
    "verification or an attack like Stop does."
)
REPORT = "The report: open report.html in a browser"
ATTACK = "Attack"
ATTACK_IS = (
    "Tries to get copies past MemStab with the prompts, lists and settings given here: the prompts are reworded, given "
    "negative prompts, sampled with another CFG scale or sampler, edited on the way, joined with ordinary ones, and "
    "begun from a noisy copy of the training picture."
)
ATTEMPTS_KEPT = (
    "Every picture is made twice: without MemStab and in suppress mode. First each prompt as it is; those that are "
    "not replayed on this checkpoint are not attacked. What was made until Stop is kept: Go on takes up the attack "
    "that was stopped last, Attack that of the same fields, Start over makes all pictures again."
)
ATTEMPTS = "The report: attempts.csv has a line for each attempt"
REPLAYS_ARE = (
    "Looks for prompts that gave nearly the same picture with at least four seeds, among the pictures in the WebUI's "
    "output folders."
)
LOOK_FOR_REPLAYS = "Look for replays"


@dataclass(frozen=True)
class Option:
    """A row of the Settings page: name in the WebUI, label, what it is at first, help, and the values of a text."""

    name: str
    label: str
    default: bool | str
    help: str
    choices: tuple[str, ...] = ()


LEARN = Option(
    "memstab_learn",
    "Learn what ordinary images of a checkpoint look like while I generate",
    False,
    "every image that MemStab watches and does not flag adds to a profile named after the checkpoint, which is used "
    "from 64 images on; of a prompt only a digest is kept",
)
PARAMETERS = Option(
    "memstab_infotext",
    "What MemStab writes into the generation parameters",
    "settings and verdict",
    "without the settings, pasting an image's parameters does not bring them back; a PNG has the whole badge in a part "
    "of its own whatever you choose",
    ("settings and verdict", "verdict", "nothing"),
)
FILES = Option(
    "memstab_files",
    "Files of flagged images",
    "save as usual",
    "an image that is not saved is in the gallery only and gone with it; its Save button saves it all the same; "
    "suppressed images are saved as usual, and a grid shows every image",
    ("save as usual", "do not save"),
)
GALLERY = Option("memstab_gallery", "Show MemStab's badges in the gallery", True, "the files have them anyway")
OPTIONS = (LEARN, PARAMETERS, FILES, GALLERY)

NOTES = {
    "memstab_note_names": "File names: [memstab] in a pattern (Saving images/grids; Paths for saving) becomes clear, "
    "flagged, suppressed or not-measured. The folder pattern [date]/[memstab<flagged><suppressed>] puts flagged images "
    "into folders of their own.",
    "memstab_note_defaults": "What the panel starts with in txt2img and in img2img: set it there; then Settings, "
    "Defaults, View changes, Apply.",
}
"""On the Settings page: what is set elsewhere, and where."""


def visible() -> list[str]:
    """Every fixed text that people read, as it stands in the page, without names and the values of menus."""
    settings = [text for one in TABLE[1:] for text in (one.label, one.help, *one.choices)]
    fields = [text for one in (*FIELDS, *verifying.FIELDS) for text in (one.label, one.help)]
    # The WebUI puts an option's help into brackets.
    options = [text for one in OPTIONS for text in (one.label, f"({one.help})", *one.choices)]
    refusals = [NO_TEXT, catalogue.NONE_CHOSEN, catalogue.NOT_TWO, catalogue.NO_FILE, *verifying.ANSWERS]
    refusals += [*working.ANSWERS, *attacking.ANSWERS, attacking.ATTACKS, attacking.ATTACKS_HELP]
    here = [text for name, text in globals().items() if name.isupper() and isinstance(text, str)]
    heads = [*catalogue.HEADS, *HEADS, *STATES, *extracting.HEADS, extracting.NO_REPLAYS]
    heads += [*names.HEADS, *names.HOLDS, names.ALL_BLIND]
    every = [*settings, *fields, *heads, *refusals, *options, *NOTES.values(), *here]
    return list(dict.fromkeys(every))
