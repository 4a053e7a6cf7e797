"""The report of a run: one file that shows its curves, its health and its facts."""

from html.parser import HTMLParser

import pytest

from jaxembed.training.report import write_report

RECORDS = [
    *(
        {
            "step": step,
            "kind": "train",
            "loss": 1 / step,
            "health/mean_cosine": 0.1 * step,
            "pairs_per_s": 50.0,
        }
        for step in range(1, 6)
    ),
    {"step": 5, "kind": "evaluation", "ndcg@10": 0.5},
]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.pictures, self.cells, self.open = [], [], []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs))
        elif tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture
def page(tmp_path):
    tables = {
        "Data": {"rows": 34032, "files": ["a.csv", "b.csv"]},
        "Evaluation": [("metric", "before"), ("<ndcg>", 0.25)],
        "Nothing": {},
    }
    file = write_report(tmp_path / "report.html", "mine & yours", RECORDS, "ndcg@10", tables)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    return file.read_text()


def test_it_has_a_picture_of_each_kind_inside(page):
    pictures = Page(page).pictures
    assert [picture["alt"] for picture in pictures] == [
        "Loss and evaluation",
        "Embedding health",
        "Throughput",
    ]
    assert all(p["src"].startswith("data:image/png;base64,iVBOR") for p in pictures)
    assert "http" not in page


def test_facts_are_tables_and_text_is_escaped(page):
    assert Page(page).cells == [
        *("rows", "34,032", "files", "a.csv, b.csv"),
        *("metric", "before", "<ndcg>", "0.25"),
    ]
    assert "mine &amp; yours" in page
    assert "Nothing" not in page


def test_a_run_without_evaluation_or_health(tmp_path):
    records = [{"step": 1, "kind": "train", "loss": 1.0}]
    file = write_report(tmp_path / "report.html", "mine", records, "", {})
    assert len(Page(file.read_text()).pictures) == 1
