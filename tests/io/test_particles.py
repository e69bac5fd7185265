"""Particles with classes: read, selected and written in the format they came in."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.io.class_numbers import NumberedSet, _NumberedMap
from occupy.io.particles import Particles, read_particles
from occupy.io.star import read_star

OPTICS = """
# version 30001

data_optics

loop_ 
_rlnOpticsGroup #1 
_rlnOpticsGroupName #2 
_rlnImagePixelSize #3 
           1 "optics group 1"     2.750000 
           2 other     1.100000 {0}

# version 30001

data_particles

loop_ 
_rlnImageName #1 
_rlnClassNumber #2 
_rlnMaxValueProbDistribution #3 
""".replace("{0}", "\n ")  # noqa: W291 (as RELION writes it)
ROWS = [
    "000001@Extract/job001/a b.mrcs            1     0.500000 ",
    "000002@Extract/job001/é.mrcs              3     1.000000 ",
    "000003@Extract/job001/c.mrcs              1     0.250000 ",
    "000004@Extract/job001/c.mrcs              2     0.125000 ",
]
ROWS[0] = ROWS[0].replace("000001@Extract/job001/a b.mrcs", "'000001@Extract/job001/a b.mrcs'")


def star(path: Path, head: str = OPTICS, rows: list[str] = ROWS, end: str = " \n\n", eol: str = "\n") -> Path:
    text = head + "".join(row + "\n" for row in rows) + end
    path.write_bytes(text.replace("\n", eol).encode())
    return path


def kept(path: Path, classes: list[int], target: Path) -> bytes:
    particles = read_particles(path)
    particles.write(np.isin(particles.labels, classes), target)
    return target.read_bytes()


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_a_selected_star_differs_by_the_rows_left_out_only(tmp_path: Path, eol: str) -> None:
    path = star(tmp_path / "data.star", eol=eol)
    found = kept(path, [1, 2], tmp_path / "out.star")
    wanted = star(tmp_path / "wanted.star", rows=[ROWS[0], ROWS[2], ROWS[3]], eol=eol)
    assert found == wanted.read_bytes()


def test_all_particles_are_the_file_itself(tmp_path: Path) -> None:
    path = star(tmp_path / "data.star")
    assert kept(path, [1, 2, 3], tmp_path / "out.star") == path.read_bytes()


def test_what_a_star_says(tmp_path: Path) -> None:
    particles = read_particles(star(tmp_path / "data.star"))
    assert particles.kind == "relion"
    assert particles.base == 1
    assert particles.counts() == {1: 2, 2: 1, 3: 1}
    assert particles.certainty is not None
    assert particles.certainty.tolist() == [0.5, 1.0, 0.25, 0.125]


VARIANTS = {
    "RELION 3.0": OPTICS[OPTICS.index("# version", 30) :].replace("data_particles", "data_images"),
    "nameless": OPTICS[OPTICS.index("# version", 30) :].replace("data_particles", "data_"),
    "RELION 5": OPTICS.replace("30001", "50001").replace(
        "data_optics", "data_general\n\n_rlnTomo 1\n\ndata_optics"
    ),
    "comments": OPTICS.replace("_rlnClassNumber #2 \n", "_rlnClassNumber #2 \n# a comment\n"),
}


@pytest.mark.parametrize("version", VARIANTS)
def test_versions(tmp_path: Path, version: str) -> None:
    path = star(tmp_path / "data.star", VARIANTS[version])
    found = kept(path, [3], tmp_path / "out.star")
    assert found == star(tmp_path / "wanted.star", VARIANTS[version], [ROWS[1]]).read_bytes()


def test_a_packed_star_is_read_and_written_unpacked(tmp_path: Path) -> None:
    plain = star(tmp_path / "data.star")
    packed = tmp_path / "packed.star.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert kept(packed, [1], tmp_path / "a.star") == kept(plain, [1], tmp_path / "b.star")


@given(labels=st.lists(st.integers(1, 4), min_size=1, max_size=30), chosen=st.sets(st.integers(1, 4)))
def test_selections_of_any_star_hold_their_classes(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int], chosen: set[int]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = [f"{i:06d}@x.mrcs {label} 0.5" for i, label in enumerate(labels)]
    kept(star(folder / "any.star", rows=rows), list(chosen), folder / "any_out.star")
    table = read_star(folder / "any_out.star")["particles"]
    wanted = [
        (row.split()[0], str(label)) for row, label in zip(rows, labels, strict=True) if label in chosen
    ]
    assert [row[:2] for row in table.rows] == wanted


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_particles(path, **options)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_stars_that_are_refused(tmp_path: Path) -> None:
    no_class = star(tmp_path / "a.star", OPTICS.replace("ClassNumber", "GroupNumber"))
    assert "no table with rlnClassNumber" in refusal(no_class)
    twice = star(tmp_path / "b.star", OPTICS, end="\ndata_more\n\nloop_\n_rlnClassNumber\n1\n2\n")
    assert "more than one table" in refusal(twice)
    broken = star(tmp_path / "c.star", rows=[ROWS[1].replace(" 3 ", "\n3 "), *ROWS[2:]])
    assert "several lines" in refusal(broken)
    text = star(tmp_path / "d.star", rows=[ROWS[1].replace("1.000000", "x")])
    assert "should be a number" in refusal(text)
    assert "truncated" in refusal(star(tmp_path / "e.star", rows=[*ROWS, "000009@a"]))
    assert "no particles" in refusal(star(tmp_path / "f.star", rows=[]))
    assert "whole numbers" in refusal(star(tmp_path / "g.star", rows=[ROWS[1].replace(" 3 ", " 1.5 ")]))
    assert "no such file" in refusal(tmp_path / "none.star")
    assert "no particles with classes" in refusal(tmp_path / "map.mrc")


# --- cryoSPARC ---


def cs(path: Path, posterior: int = 1, **more: Any) -> np.ndarray:
    fields: list[Any] = [
        ("uid", "<u8"),
        ("blob/path", "S20"),
        ("alignments3D/class", "<u4"),
        ("alignments3D/class_posterior", "<f4", (3,) if posterior > 1 else ()),
        ("alignments3D/pose", "<f4", (3,)),
    ]
    content = np.zeros(5, dtype=fields + [(name, "<u4") for name in more])
    content["uid"] = np.arange(5) + 2**60
    content["blob/path"] = [b"J1/a.mrc", b"J1/b.mrc", b"", b"x" * 20, b"J1/\xff"]
    content["alignments3D/class"] = [0, 2, 1, 0, 2]
    content["alignments3D/class_posterior"] = 0.75 if posterior == 1 else [0.5, 0.25, 0.25]
    content["alignments3D/pose"] = np.arange(15).reshape(5, 3)
    for name, values in more.items():
        content[name] = values
    with path.open("wb") as out:
        np.save(out, content)
    return content


def test_cryosparc_particles_keep_every_field(tmp_path: Path) -> None:
    content = cs(tmp_path / "particles.cs")
    particles = read_particles(tmp_path / "particles.cs")
    assert particles.counts() == {0: 2, 1: 1, 2: 2}
    assert particles.base is None
    particles.write(particles.labels == 0, tmp_path / "out.cs")
    with (tmp_path / "out.cs").open("rb") as stream:
        found = np.load(stream, allow_pickle=False)
    assert found.dtype == content.dtype
    assert found.tobytes() == content[[0, 3]].tobytes()
    group = yaml.safe_load((tmp_path / "out.csg").read_text())
    assert group["group"] == {
        "description": "Written by OccuPy", "name": "out", "title": "out", "type": "particle"
    }  # fmt: skip
    assert group["results"] == {
        name: {"metafile": ">out.cs", "num_items": 2, "type": f"particle.{name}"}
        for name in ("alignments3D", "blob")
    }


def test_exported_cryosparc_particles_are_written_beside_their_images_only(tmp_path: Path) -> None:
    content = cs(tmp_path / "J42_particles_exported.cs")
    content["blob/path"] = b">J1/a.mrc"
    with (tmp_path / "J42_particles_exported.cs").open("wb") as out:
        np.save(out, content)
    particles = read_particles(tmp_path / "J42_particles_exported.cs")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match="write into"):
        particles.write(particles.labels == 0, tmp_path / "elsewhere" / "out.cs")
    assert not list((tmp_path / "elsewhere").iterdir())
    particles.write(particles.labels == 0, tmp_path / "out.cs")
    assert (tmp_path / "out.csg").is_file()


def test_cryosparc_posteriors_of_all_classes_give_soft_shares(tmp_path: Path) -> None:
    cs(tmp_path / "particles.cs", posterior=3)
    assert read_particles(tmp_path / "particles.cs").shares == {0: 0.5, 1: 0.25, 2: 0.25}


def test_cryosparc_fields_of_classes_that_differ_have_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "particles.cs"
    cs(path, **{"alignments2D/class": [7, 7, 7, 7, 7]})
    assert "--class-field" in refusal(path)
    assert read_particles(path, "alignments2D/class").counts() == {7: 5}
    assert "no field" in refusal(path, class_field="x/class")


def test_cs_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "particles.cs"
    with path.open("wb") as out:
        np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "pickled objects" in refusal(path)
    content = cs(path)
    path.write_bytes(path.read_bytes()[:-5])
    assert "damaged" in refusal(path)
    path.write_bytes(b"\x94CSDAT\0\0")
    assert "CSDAT" in refusal(path)
    with path.open("wb") as out:
        np.save(out, content[["uid", "blob/path"]])
    assert "no field" in refusal(path)
    with path.open("wb") as out:
        np.save(out, np.arange(4))
    assert "not a table" in refusal(path)


# --- cryoDRGN ---


def test_cryodrgn_indices_count_from_0_and_follow_the_parents(tmp_path: Path) -> None:
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps(np.array([0, 1, 2, 1])))
    particles = read_particles(tmp_path / "labels.pkl")
    particles.write(particles.labels == 1, tmp_path / "ind.pkl")
    assert pickle.loads((tmp_path / "ind.pkl").read_bytes()).tolist() == [1, 3]
    particles.write(particles.labels == 1, tmp_path / "ind.pkl", np.array([10, 20, 30, 40]))
    assert pickle.loads((tmp_path / "ind.pkl").read_bytes()).tolist() == [20, 40]


def test_labels_as_text(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0\n1\n1\n")
    assert read_particles(tmp_path / "labels.txt").counts() == {0: 1, 1: 2}
    (tmp_path / "labels.txt").write_text("0\n1.5\n")
    assert "whole number" in refusal(tmp_path / "labels.txt")


def test_targets_that_are_refused(tmp_path: Path) -> None:
    particles = read_particles(star(tmp_path / "data.star"))
    keep = np.ones(4, bool)
    for name, said in (("data.star", "read from"), ("out.cs", r"\.star file")):
        with pytest.raises(InputError, match=said):
            particles.write(keep, tmp_path / name)


# --- which class is which map ---


def maps(numbers: list[int | None], base: int | None, kind: str = "relion", **more: Any) -> NumberedSet:
    entries = tuple(_NumberedMap(f"map{number}", number, **more) for number in numbers)
    return NumberedSet(kind, "run_it025_model.star", base, entries)


def particles_of(labels: list[int], kind: Any = "relion", name: str = "run_it025_data.star") -> Particles:
    return Particles(kind, Path(name), np.array(labels), 1 if kind == "relion" else None)


def test_relion_counts_from_1(tmp_path: Path) -> None:
    labels, notices = maps([1, 2, 3], 1).match(particles_of([1, 3, 3, 2]))
    assert labels == {"map1": 1, "map2": 2, "map3": 3}
    assert notices == []


def test_maps_from_1_and_labels_from_0() -> None:
    labels, _ = maps([1, 2, 3], 1, "cryodrgn").match(particles_of([0, 1, 2], "cryodrgn"))
    assert labels == {"map1": 0, "map2": 1, "map3": 2}


def test_maps_from_0_and_labels_from_0() -> None:
    labels, _ = maps([0, 1, 2], 0, "cryodrgn").match(particles_of([0, 1, 2], "cryodrgn"))
    assert labels == {"map0": 0, "map1": 1, "map2": 2}


def test_maps_from_0_and_labels_from_1() -> None:
    labels, _ = maps([0, 1, 2], 0, "cryosparc").match(particles_of([1, 1, 3], "cryosparc"))
    assert labels == {"map0": 1, "map1": 2, "map2": 3}


def test_what_cannot_be_told_is_asked() -> None:
    ours, theirs = maps([0, 1, 2, 3], 0, "cryosparc"), particles_of([1, 2, 3], "cryosparc")
    with pytest.raises(InputError, match="--label-base"):
        ours.match(theirs)
    assert ours.match(theirs, label_base=0)[0]["map1"] == 1
    assert ours.match(theirs, label_base=1)[0]["map1"] == 2
    unknown = maps([1, 2, 3], None, "cryodrgn")
    with pytest.raises(InputError, match="--map-base"):
        unknown.match(particles_of([0, 1, 2], "cryodrgn"))
    assert unknown.match(particles_of([0, 1, 2], "cryodrgn"), map_base=1)[0]["map1"] == 0


def test_files_with_all_the_numbers_of_relions_classes_need_no_base() -> None:
    ours = maps([1, 2, 3], None, "files")
    assert ours.match(particles_of([1, 2, 3]))[0] == {"map1": 1, "map2": 2, "map3": 3}
    with pytest.raises(InputError, match="--map-base"):
        ours.match(particles_of([1, 2]))


def test_classes_left_out_of_the_table_on_purpose() -> None:
    ours = replace(maps([1, 2], 1), whole=False)
    labels, notices = ours.match(particles_of([1, 2, 3]))
    assert labels == {"map1": 1, "map2": 2}
    assert [notice.code for notice in notices] == ["classes-without-map"]
    other = replace(maps([0, 1], 0, "cryosparc"), whole=False)
    with pytest.raises(InputError, match="--label-base"):
        other.match(particles_of([1, 2], "cryosparc"))
    assert other.match(particles_of([0, 1, 2], "cryosparc"))[0] == {"map0": 0, "map1": 1}


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "said"),
    [
        (maps([1, 2], 1), particles_of([1, 2, 3]), {}, "no map"),
        (maps([1, 2], 1), particles_of([0, 1]), {}, "count from 1"),
        (maps([1, 2], 1), particles_of([1, 2]), {"map_base": 0}, "from 1, not from 0"),
        (maps([1, 2], 1), particles_of([1, 2]), {"label_base": 0}, "from 1, not from 0"),
        (maps([0, 1], 1), particles_of([1, 2]), {}, "map 0"),
        (maps([None, None], None, "files"), particles_of([1, 2]), {}, "no class numbers"),
        (maps([1, 2], 1), particles_of([0, 1], "cryosparc"), {}, "maps are those of relion"),
        (maps([0, 1], 0, "cryosparc"), particles_of([0, 2], "cryosparc"), {}, "another job"),
        (maps([0, 1], 0, "cryosparc"), particles_of([1, 3], "cryosparc"), {}, "another job"),
        (maps([0, 1], 0, "cryosparc"), particles_of([-1, 1], "cryosparc"), {}, "without a class"),
    ],
)
def test_numbers_that_do_not_fit(ours: NumberedSet, theirs: Particles, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ours.match(theirs, **options)


def test_doubts_about_the_particles() -> None:
    def codes(ours: NumberedSet, theirs: Particles) -> list[str]:
        return [notice.code for notice in ours.match(theirs)[1]]

    assert codes(maps([1, 2], 1), particles_of([1, 2], name="run_it024_data.star")) == ["other-iteration"]
    assert codes(maps([1, 2], 1, particles=1), particles_of([1, 2, 2])) == ["other-particles"]
    assert codes(maps([1, 2, 3], 1), particles_of([1, 2])) == ["empty-class"]
    partly = maps([0, 2], 0, "cryodrgn")
    assert codes(partly, particles_of([0, 1, 2], "cryodrgn")) == ["classes-without-map"]


def test_an_index_of_particles_is_not_taken_for_their_classes(tmp_path):
    path = tmp_path / "state_001_particle_ind.pkl"
    path.write_bytes(pickle.dumps(np.array([4, 17, 23])))
    with pytest.raises(InputError, match=r"lists particles.*give labels\.pkl"):
        read_particles(path)


def npy(header: str, data: bytes = b"") -> bytes:
    """Return a .npy file with a header as given."""
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode().ljust(117) + b"\n" + data


def test_l03_a_damaged_header_of_a_cs_file(tmp_path: Path) -> None:
    path = tmp_path / "p.cs"
    for header in ("{'descr': [('a/class','<u4')", "{", "\0", "{'descr': 7}", "[" * 100, "{1: 2"):
        path.write_bytes(npy(header))
        assert "damaged or truncated" in refusal(path)


def test_l04_a_cs_file_that_announces_a_huge_table(tmp_path: Path) -> None:
    path = tmp_path / "p.cs"
    shape = "{'descr': [('a/class','<u4')], 'fortran_order': False, 'shape': (%d,), }"
    for rows in (10**12, 10**30, 3):
        path.write_bytes(npy(shape % rows, bytes(8)))
        assert "more particles than it holds" in refusal(path)
    path.write_bytes(npy(shape % 2, bytes(8)))
    assert read_particles(path).counts() == {0: 2}


def test_l05_columns_and_blocks_beyond_ascii(tmp_path: Path) -> None:
    path = tmp_path / "d.star"
    path.write_text("data_pärticles\nloop_\n_rlnImageN\u00e4me #1\n_rlnClassNumber #2\na 1\nb 2\n", "utf-8")
    particles = read_particles(path)
    assert particles.counts() == {1: 1, 2: 1}
    particles.write(np.array([False, True]), tmp_path / "e.star")
    assert (tmp_path / "e.star").read_bytes() == path.read_bytes().replace(b"a 1\n", b"")


@pytest.mark.parametrize("number", ["99999999999999999999", "nan", "inf", "1.5", "4294967296"])
def test_class_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    path = tmp_path / "d.star"
    path.write_text(f"data_particles\nloop_\n_rlnImageName\n_rlnClassNumber\na 1\nb {number}\n")
    assert "whole numbers" in refusal(path)
