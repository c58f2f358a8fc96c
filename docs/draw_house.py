"""Draw the house in CONTRIBUTING.md from the import contract.

`python docs/draw_house.py` writes the picture; with `--check` it writes nothing, and exits with
code 1 if the picture that is there is not that of the contract.
"""

import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACT, PAGE, PACKAGE = ROOT / ".importlinter", ROOT / "CONTRIBUTING.md", ROOT / "eeipu"
BEGIN, END = "<!-- The house, drawn by docs/draw_house.py: -->", "<!-- End of the house. -->"

WIDTH = 60  # characters between the outer walls; divided evenly by one, two and three rooms


def floors() -> list[list[str]]:
    """The floors of the contract from the top down, each with its doors and rooms."""
    contract = ConfigParser()
    contract.read(CONTRACT)
    layers = contract["importlinter:contract:house"]["layers"].split("\n")
    return [[each.strip() for each in layer.split("|")] for layer in layers if layer]


def picture(house: list[list[str]]) -> str:
    """The house as text: a line for each floor, a slash behind the names of rooms."""
    lines = [_ceiling([], house[0], "┌┐")]
    for number, (floor, below) in enumerate(zip(house, [*house[1:], []], strict=True)):
        width = WIDTH // len(floor)
        names = "│".join(_titled(name).center(width - 1) for name in floor)
        lines.append(f"{len(house) - number:2} │{names.ljust(WIDTH - 1)}│")
        lines.append(_ceiling(floor, below, "├┤" if below else "└┘"))
    return "\n".join(lines)


def _titled(name: str) -> str:
    return f"{name}/" if (PACKAGE / name).is_dir() else name


def _ceiling(above: list[str], below: list[str], corners: str) -> str:
    """The line between two floors, with a joint wherever a wall of either begins or ends."""
    ups, downs = _walls(above), _walls(below)
    joints = {(False, False): "─", (True, False): "┴", (False, True): "┬"}
    middle = "".join(joints.get((i in ups, i in downs), "┼") for i in range(1, WIDTH))
    return f"   {corners[0]}{middle}{corners[1]}"


def _walls(floor: list[str]) -> set[int]:
    return {WIDTH // len(floor) * number for number in range(1, len(floor))}


def main(arguments: list[str]) -> None:
    """Write the picture into its page, or check the one that is there."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    drawn = f"{before}{BEGIN}\n```text\n{picture(floors())}\n```\n{END}{after}"
    if "--check" not in arguments:
        PAGE.write_text(drawn)
    elif page != drawn:
        sys.exit(f"the house in {PAGE.name} is not that of {CONTRACT.name}; run {sys.argv[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
