"""shard.py against tarfile, the webdataset library and damaged bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import InputError, VerifyError
from datagen.formats.shard import MAX_MEMBER_BYTES, ShardMember, iterate_shard, pack_shard
from datagen.images import sha256_hex

KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,94}", fullmatch=True)
CONTENTS = st.binary(max_size=1500) | st.sampled_from([b"", bytes(512), bytes(1024)])
MEMBERS = st.lists(st.builds(ShardMember, KEYS, CONTENTS, CONTENTS), unique_by=lambda m: m.key)

THREE = [
    ShardMember("trouser-00000000", b"\x89PNG first", b'{"key":"trouser-00000000"}'),
    ShardMember("ankle-boot-00000012", bytes(range(256)) * 4, b"{}"),
    ShardMember("b", b"", b'{"split":"val"}'),
]


GOLDEN = "6264d83b89e7da8b3136b4a04ee93dd0fc5be0a607c5a566d30dc604f08e5270"


def _by_tarfile(members: list[ShardMember]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            for suffix, content in ((".png", member.png), (".json", member.json)):
                entry = tarfile.TarInfo(member.key + suffix)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def test_golden_bytes() -> None:
    data = pack_shard(THREE).data
    assert len(data) == 10240
    assert sha256_hex(data) == GOLDEN


@settings(max_examples=100, deadline=None)
@given(MEMBERS)
def test_bytes_are_those_of_tarfile_and_come_back(members: list[ShardMember]) -> None:
    packed = pack_shard(members)
    assert packed.data == _by_tarfile(members)
    assert list(iterate_shard(io.BytesIO(packed.data))) == members
    pngs = [packed.data[offset : offset + size] for offset, size in packed.offsets]
    assert pngs == [member.png for member in members]


def test_tarfile_sees_no_time_owner_or_odd_mode() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack_shard(THREE).data)) as tar:
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (
                0,
                0,
                0,
                "",
                "",
            )
            assert entry.isreg()
            assert entry.mode == 0o644


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its file open
def test_webdataset_reads_the_samples(tmp_path: Path) -> None:
    import webdataset

    path = tmp_path / "train-00000.tar"
    path.write_bytes(pack_shard(THREE).data)
    seen = [
        ShardMember(sample["__key__"], sample["png"], sample["json"])
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert seen == THREE


@pytest.mark.parametrize("key", ["", "a/b", "a.b", "../a", "-a", "a b", "caf\xe9", "a" * 96, "a\n"])
def test_a_key_that_readers_would_misread_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="sample key"):
        pack_shard([ShardMember(key, b"", b"")])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'b'"):
        pack_shard([THREE[2], THREE[0], THREE[2]])


def test_a_flipped_byte_never_ends_in_another_error_than_ours() -> None:
    """Headers are checked here; contents are the digest's business."""
    data = pack_shard(THREE).data
    used = data.rstrip(b"\0")
    for i in range(len(used)):
        changed = bytearray(data)
        changed[i] ^= 0x04
        try:
            seen = list(iterate_shard(io.BytesIO(bytes(changed))))
        except VerifyError:
            continue
        assert [len(m.png) for m in seen] == [len(m.png) for m in THREE]
        assert [m.key for m in seen] == [m.key for m in THREE]


def test_a_cut_shard_is_refused() -> None:
    data = pack_shard(THREE).data
    for length in range(0, len(data.rstrip(b"\0")), 97):
        with pytest.raises(VerifyError, match="whole file"):
            list(iterate_shard(io.BytesIO(data[:length])))


def test_another_kind_of_tar_is_refused() -> None:
    members = [ShardMember("../../etc/passwd", b"x", b"{}")]
    with pytest.raises(VerifyError, match=r"KEY\.png"):
        list(iterate_shard(io.BytesIO(_by_tarfile(members))))
    data = pack_shard(THREE).data
    without_first = data[2 * 512 :]
    with pytest.raises(VerifyError, match=r"KEY\.png"):
        list(iterate_shard(io.BytesIO(without_first)))


def test_a_size_past_the_limit_is_refused_before_it_is_read() -> None:
    data = bytearray(pack_shard(THREE).data)
    data[124:135] = b"%011o" % (MAX_MEMBER_BYTES + 1)
    with pytest.raises(VerifyError, match="damaged"):
        next(iterate_shard(io.BytesIO(bytes(data))))


def test_reads_on_after_short_reads() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size or 0))

    assert list(iterate_shard(Dripping(pack_shard(THREE).data))) == THREE
