"""Corpora: text in, arrays and tokenizers out; every error of a text with its file and line."""

from __future__ import annotations

import gzip
import json
import sys

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import CorpusSettings, PairFiles, Tokenizer, Vocabulary, preprocess, read_corpus
from labelembed.lab.data.corpus import counting
from labelembed.lab.data.corpus.lines import MAXIMUM_LINE_BYTES, line_blocks
from labelembed.lab.data.corpus.tokenizer import Characters, Words
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS
from tests.made_corpus import made_pairs, write_corpus, write_pair_files, write_text
from tests.made_data import real_data_folder
from tests.naive.corpus import naive_numbers, naive_vocabulary


def corpus_of(folder, source, target, *, validation=None, **settings):
    """A corpus of these lines, in FOLDER/corpus."""
    files = {"train": PairFiles(write_text(folder / "a", source), write_text(folder / "b", target))}
    if validation is not None:
        files["validation"] = write_pair_files(folder, "dev", validation)
    return preprocess(**files, out=folder / "corpus", settings=CorpusSettings(**settings))


# ------------------------------------------------------------------------------------------------ what it contains


def test_words_and_characters_are_the_naive_ones(tmp_path):
    pairs = made_pairs(80)
    found = write_corpus(tmp_path, train=80, target_level="character", min_count=3, vocabulary_size=12)
    for side, cut in ((0, str.split), (1, list)):
        lines = [cut(pair[side]) for pair in pairs]
        tokens = naive_vocabulary(lines, size=12, min_count=3)
        tokenizer, sentences = (found.source_tokenizer, found.train.source) if side == 0 else (
            found.target_tokenizer, found.train.target)  # fmt: skip
        assert list(tokenizer.vocabulary.tokens) == tokens
        assert [each.tolist() for each in sentences] == [naive_numbers(line, tokens) for line in lines]
        about = found.counts["train"]["source" if side == 0 else "target"]
        numbers = [number for line in lines for number in naive_numbers(line, tokens)]
        assert about == {"tokens": len(numbers), "unknown": numbers.count(1)}
    assert found.names == found.target_tokenizer.vocabulary.tokens
    assert found.num_labels == len(found.names)
    assert found.to("cpu") is found


def test_arrays_are_mapped_and_as_small_as_the_vocabulary_allows(tmp_path):
    words = [f"w{number}" for number in range(2**16 - 3)]
    found = corpus_of(tmp_path, [" ".join(words), "w0"], ["a", "w0"])
    source, target = found.train.source.tokens, found.train.target.tokens
    assert (source.dtype, source.max(), target.dtype) == (np.int32, 2**16, np.uint16)
    assert isinstance(source.base, np.memmap)
    assert not source.flags.writeable


def test_texts_of_validation_and_test_are_kept(tmp_path):
    found = write_corpus(tmp_path, validation=5, test=0)
    assert found.references("validation") == [target for _, target in made_pairs(5, seed=1)]
    assert found.source_lines("validation") == [source for source, _ in made_pairs(5, seed=1)]
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"keeps no text of '{split}'; it has that of validation"):
            found.references(split)


def test_empty_pairs_and_long_training_pairs_are_left_out_together_and_counted(tmp_path):
    pairs = [
        ("S1", "t1"),
        ("", "t2"),
        ("s3", " \t "),
        ("s4", "t4"),
        ("\u3000", ""),
        ("s1 x x x", "t5"),
        ("s1", "u u u u"),
    ]
    found = corpus_of(tmp_path, *zip(*pairs, strict=True), validation=pairs, max_length=3, lowercase=True)
    decode = found.source_tokenizer.decode
    assert [decode(each) for each in found.train.source] == ["s1", "s4"]
    assert [decode(each) for each in found.validation.source] == ["s1", "s4", "s1 <unk> <unk> <unk>", "s1"]
    assert found.references("validation") == ["t1", "t4", "t5", "u u u u"]
    assert found.source_lines("validation")[0] == "s1"  # in lower case, as the tokens are
    assert set(found.names) == {*SPECIAL_TOKENS, "t1", "t4"}  # what is left out is not counted either
    assert found.notes == (
        "train: pairs with an empty line left out: 3",
        "train: pairs with more than 3 tokens left out: 2",
        "validation: pairs with an empty line left out: 3",
    )
    assert found.counts["validation"]["source"]["unknown"] == 3


def test_a_shared_vocabulary_is_counted_over_both_sides(tmp_path):
    found = corpus_of(tmp_path, ["a b", "c"], ["b b", "d"], shared_vocabulary=True)
    assert found.names == (*SPECIAL_TOKENS, "b", "a", "c", "d")
    assert found.source_tokenizer.vocabulary == found.target_tokenizer.vocabulary


def test_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path):
    first = write_corpus(tmp_path / "x").fingerprint()
    assert write_corpus(tmp_path / "y").fingerprint() == first
    assert read_corpus(tmp_path / "x" / "corpus").fingerprint() == first
    others = [{"train": 59}, {"validation": 11}, {"min_count": 9}, {"lowercase": True}, {"level": "character"}]
    found = {write_corpus(tmp_path / str(number), **each).fingerprint() for number, each in enumerate(others)}
    assert len(found | {first}) == 6


# ------------------------------------------------------------------------------------------------------- tokenizers


def test_decode_stops_at_the_end_and_drops_padding(tmp_path):
    words = Words(Vocabulary((*SPECIAL_TOKENS, "a", "b")))
    assert words.decode([BEGIN, 4, PAD, 1, 5, END, 4, 99]) == "a <unk> b"
    assert words.decode(np.array([], np.uint16)) == ""
    with pytest.raises(ValueError, match="`ids` must be 0 to 5, got 6"):
        words.decode([6])


def test_characters_are_code_points_and_white_space_is_one_space():
    tokenizer = Characters(Vocabulary((*SPECIAL_TOKENS, " ", "狗", "𝄞", "b")))
    assert tokenizer.tokens("\t狗\u3000 𝄞?b ") == ["狗", " ", "𝄞", "?", "b"]
    assert tokenizer.encode("\t狗\u3000 𝄞?b ").tolist() == [5, 4, 6, 1, 7]
    assert tokenizer.decode([5, 4, 6]) == "狗 𝄞"
    assert tokenizer.encode("").tolist() == []


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("shared", [False, True])
def test_subwords_have_our_special_tokens_and_come_back(tmp_path, kind, shared):
    pytest.importorskip("sentencepiece", reason="subwords need sentencepiece: the extra `text`")
    settings = {"level": "subword", "vocabulary_size": 22, "subword_kind": kind, "shared_vocabulary": shared}
    found = write_corpus(tmp_path / "x", **settings)
    for tokenizer, sentences, side in (
        (found.source_tokenizer, found.train.source, 0),
        (found.target_tokenizer, found.train.target, 1),
    ):
        assert tokenizer.vocabulary.tokens[:4] == SPECIAL_TOKENS
        assert len(tokenizer.vocabulary) == 22
        lines = [pair[side] for pair in made_pairs(60)]
        assert [tokenizer.decode(each) for each in sentences] == lines
        assert [tokenizer.encode(line).tolist() for line in lines] == [each.tolist() for each in sentences]
        assert "".join(tokenizer.tokens(lines[0])).replace("\u2581", " ").strip() == lines[0]
        assert tokenizer.vocabulary.encode(tokenizer.tokens(lines[0])).tolist() == sentences[0].tolist()
        assert tokenizer.decode([2, *sentences[0], 3, 5, 0]) == lines[0]
        assert not set(tokenizer.encode("<s> w1 </s> <pad>").tolist()) & {0, 2, 3}
    assert (found.source_tokenizer.digest() == found.target_tokenizer.digest()) == shared
    again = write_corpus(tmp_path / "y", **settings)
    assert again.fingerprint() == found.fingerprint()


def test_too_many_subwords_are_refused_with_what_is_possible(tmp_path):
    pytest.importorskip("sentencepiece", reason="subwords need sentencepiece: the extra `text`")
    with pytest.raises(DataError, match=r"train.source: sentencepiece cannot make .* 9,000 pieces .* <= \d+"):
        write_corpus(tmp_path, level="subword", vocabulary_size=9000)
    assert not (tmp_path / "corpus").exists()


def test_min_count_is_refused_where_no_side_counts(tmp_path):
    with pytest.raises(ValueError, match="`min_count` is for words"):
        CorpusSettings(level="subword", min_count=2)
    CorpusSettings(source_level="word", target_level="subword", min_count=2)


def test_missing_sentencepiece_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(DataError, match=r'need sentencepiece: pip install "labelembed\[text\]"'):
        write_corpus(tmp_path, level="subword", vocabulary_size=22)


def test_subwords_are_trained_on_lines_from_everywhere(monkeypatch):
    monkeypatch.setattr(counting, "SAMPLED_LINES", 10)
    counter = counting.token_counter("subword", CorpusSettings(level="subword"))
    for begin in range(0, 100, 7):
        counter.add([str(number) for number in range(begin, min(begin + 7, 100))])
    assert counter.lines == [str(number) for number in range(0, 100, 16)]


@pytest.mark.parametrize("level", ["word", "subword", "character"])
def test_real_sentences_come_back_at_every_level(tmp_path, level):
    folder = real_data_folder("multi30k")
    if level == "subword":
        pytest.importorskip("sentencepiece", reason="subwords need sentencepiece: the extra `text`")
    lines = {}
    for side in ("en", "de"):
        with gzip.open(folder / f"val.{side}.gz", "rt", encoding="utf-8", newline="\n") as stream:
            lines[side] = stream.read().split("\n")[:-1]
    files = PairFiles(folder / "val.en.gz", folder / "val.de.gz")
    settings = CorpusSettings(level=level, vocabulary_size=1000 if level == "subword" else None)
    found = preprocess(train=files, validation=files, out=tmp_path / "corpus", settings=settings)
    assert len(found.train) == 1014
    for tokenizer, split, side in (
        (found.source_tokenizer, found.train.source, "en"),
        (found.target_tokenizer, found.train.target, "de"),
    ):
        assert [tokenizer.decode(each) for each in split] == [" ".join(line.split()) for line in lines[side]]
        assert not any((each == 1).any() for each in split)
    assert found.references("validation") == lines["de"]


# ------------------------------------------------------------------------------------------------------ bad text


@pytest.mark.parametrize("size", [0, 10, 2**20])
def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path, size):
    good = b"na\xc3\xafve\n" * (size // 7)
    (tmp_path / "a").write_bytes(good + b"caf\xe9 x\nb\n")
    with pytest.raises(DataError, match=rf"a: line {size // 7 + 1:,} is not UTF-8 \(byte 0xe9 at place 4\)"):
        list(line_blocks(tmp_path / "a"))


def test_lines_end_with_line_feeds_only_and_the_last_needs_none(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffa\u2028b\r\n\r\nc\x0bd\re\n\nlast".encode())
    assert [line for block in line_blocks(tmp_path / "a") for line in block] == [
        "a\u2028b", "", "c\x0bd\re", "", "last"]  # fmt: skip


def test_lines_over_several_blocks_come_whole(tmp_path):
    lines = [f"{number} " + "äx" * (number % 900) for number in range(9000)]
    write_text(tmp_path / "a.gz", lines)
    read = []
    assert [line for block in line_blocks(tmp_path / "a.gz", bytes_read=read.append) for line in block] == lines
    assert sum(read) == (tmp_path / "a.gz").stat().st_size


@pytest.mark.parametrize("text", ["x", "ä"])
def test_a_text_without_line_ends_is_refused_with_its_line(tmp_path, text):
    longest = MAXIMUM_LINE_BYTES // len(text.encode())
    write_text(tmp_path / "a", ["s", text * longest, "t"])
    assert sum(map(len, line_blocks(tmp_path / "a"))) == 3
    for rest in (["t"], []):
        write_text(tmp_path / "a", ["s", text * (2 * longest + 1), *rest])
        with pytest.raises(DataError, match="a: line 2 is longer than 1,048,576 bytes"):
            list(line_blocks(tmp_path / "a"))
    (tmp_path / "a").write_bytes(b"s\n" + b"x" * 5_000_000)
    with pytest.raises(DataError, match="a: line 2 is longer"):
        list(line_blocks(tmp_path / "a"))


def test_a_damaged_gzip_file_is_refused(tmp_path):
    file = write_text(tmp_path / "a.gz", [f"{number} {hash((number, 0))}" for number in range(60_000)])
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a.gz: the gzip file is cut off after line [\d,]+ or so"):
        list(line_blocks(file))
    file.write_bytes(content[:1000] + bytes(200) + content[1200:])
    with pytest.raises(DataError, match=r"a.gz: the gzip file is damaged after line [\d,]+ or so"):
        list(line_blocks(file))


@pytest.mark.parametrize(("source", "target"), [(3, 2), (2, 3), (0, 4), (90_000, 100_000)])
def test_files_of_different_length_are_refused_with_both_counts(tmp_path, source, target):
    with pytest.raises(DataError, match=rf"a has {source:,} lines and .*b has {target:,}; line-aligned"):
        corpus_of(tmp_path, ["some words " * 3] * source, ["other words"] * target)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "a: is empty; expected a line a sentence"),
        (["", " "], "a: no pair is left; left out: 2 with an empty line"),
        (["a b c"], "a: no pair is left; left out: 0 with an empty line, 1 longer than --max-length"),
    ],
)
def test_files_of_which_no_pair_is_left_are_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        corpus_of(tmp_path, lines, lines, max_length=2)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("name", "lines", "columns", "message"),
    [
        ("p.tsv", ["source\ttarget", "a\tb", "a"], {}, "line 3 has 1 columns, the first line has 2"),
        ("p.tsv", ["de\ten\tfr", "a\tb\tc"], {}, "holds the source is unclear; .*there are: de, en, fr"),
        ("p.tsv", ["src\ten\tfr", "a\tb\tc"], {}, "holds the target is unclear; name it by --target-column"),
        ("p.tsv", ["de\ten", "a\tb"], {"source_column": "ed"}, "no column 'ed'.*there are: de, en"),
        ("p.tsv", ["a\tb\tc"], {"source_column": "2"}, "name both columns"),
        ("p.jsonl", ['{"source": "a", "target": "b"}', '{"source": 3}'], {}, "line 2 has no text in column 'source'"),
        ("p.jsonl", ['{"source": "a", "target": "b"}', "{"], {}, "line 2 is no JSON"),
        ("p.jsonl", ["[1]"], {}, "line 1 is a list; expected an object"),
        ("p.jsonl", ['{"source": "\\ud800", "target": "b"}'], {}, "line 1 has half a character"),
        ("p.jsonl", ["", " "], {}, "is empty"),
        ("p.csv", ["source,target"], {}, "has a heading and no row: source, target"),
        ("p.doc", ["source,target"], {}, "one file must have two columns"),
        ("p.csv", ["source,target", "a,b", "c"], {}, "row 3 has 1 cell"),
        ("p.json", ['[{"source": "a"}, {"source": "b", "target": "c"}]'], {}, "entry 0 has no text in column 'target'"),
    ],
)
def test_a_file_of_pairs_that_cannot_be_read_is_refused(tmp_path, name, lines, columns, message):
    write_text(tmp_path / name, lines)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        list(PairFiles(tmp_path / name, **columns).blocks())


@pytest.mark.parametrize(
    ("name", "lines", "columns"),
    [
        ("p.tsv", ["a\tb", '"c\td']  , {}),
        ("p.tsv", ["id\tTarget\tSRC", "1\tb\ta", "", '2\td\t"c'], {}),
        ("p.tsv", ["b\tx\ta", 'd\tx\t"c'], {"source_column": "3", "target_column": "1"}),
        ("p.jsonl", ['{"en": "a", "de": "b"}', '{"en": "\\"c", "de": "d"}'],
         {"source_column": "en", "target_column": "de"}),
        ("p.csv", ["id,target,source", "1,b,a", '2,d,"""c"'], {}),
        ("p.json", ['[{"source": "a", "target": "b"}, {"source": "\\"c", "target": "d"}]'], {}),
        ("p.ndjson", ['{"translation": {"en": "a", "de": "b"}}', '{"translation": {"en": "\\"c", "de": "d"}}'],
         {"source_column": "translation.en", "target_column": "translation.de"}),
    ],
)  # fmt: skip
def test_columns_are_found_or_named(tmp_path, name, lines, columns):
    write_text(tmp_path / name, lines)
    assert list(PairFiles(tmp_path / name, **columns).blocks()) == [(["a", '"c'], ["b", "d"])]


# ---------------------------------------------------------------------------------------------------- bad folders


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is no corpus, it has no corpus.json; labelembed preprocess makes one"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match="does not exist; expected a corpus folder"):
        read_corpus(tmp_path / "no")


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(tmp_path, number):
    file = write_corpus(tmp_path).folder / "corpus.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": number}))
    with pytest.raises(DataError, match=f"is of format {number}; this version of labelembed reads 2; make the"):
        read_corpus(file.parent)


@pytest.mark.parametrize(
    "name",
    ["corpus.json", "train-source.npy", "train-target-offsets.npy", "source-vocabulary.txt", "source-tokenizer.json",
     "validation-target.txt"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["missing", "cut off", "changed"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path, name, how):
    file = write_corpus(tmp_path).folder / name
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "cut off":
        file.write_bytes(content[:-3])
    else:
        file.write_bytes(content[:-4] + bytes(byte ^ 0xFF for byte in content[-4:]))
    with pytest.raises(DataError, match=f"{name}|no corpus.json"):
        read_corpus(file.parent)


def test_a_damaged_subword_model_is_not_read(tmp_path):
    pytest.importorskip("sentencepiece", reason="subwords need sentencepiece: the extra `text`")
    found = write_corpus(tmp_path, level="subword", vocabulary_size=22)
    file = found.folder / "target-subwords.model"
    file.write_bytes(file.read_bytes()[:-9] + b"\xff" * 9)
    with pytest.raises(DataError, match=r"target-subwords.model: is damaged"):
        Tokenizer.load(found.folder, "target")
