"""What is counted in one pass over the images: hits, loss, ties, intervals, confusions, and the worst images."""

from __future__ import annotations

import base64
import re
from types import SimpleNamespace

import cv2
import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.evaluate.answers import Answers, ask, interval
from gluon_effnets.evaluate.confusion import class_rows, confusion_matrix, draw_confusion, most_confused
from gluon_effnets.evaluate.inputs import as_pixels
from gluon_effnets.evaluate.subject import Subject
from gluon_effnets.evaluate.worst import worst_page
from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.metrics import classification_sums, means

pytestmark = pytest.mark.fast

NAMES = ["<b>ant</b>", "bee & wasp", '"cow"', "$x_1^{2}$"]


def asked(logits, names=None, **settings):
    """A subject that answers the synthetic images in order with the rows of `logits`, seven at a time."""
    values = {"image_size": 16, "eval_batch_size": 7, "classes": logits.shape[1], **settings}
    data = open_data(DataSettings(source=f"synthetic:{4 * len(logits)}", **values), seed=0)
    rows = iter(logits)

    def answer(batch):
        return np.stack([next(rows) for _ in range(batch.num_valid)])

    return Subject("a_model", "a.params", data, answer, "recorded", None, {}, names)


def random_logits(images=23, classes=4, seed=0):
    return np.random.RandomState(seed).normal(0, 2, (images, classes)).astype(np.float32)


def test_scores_are_those_of_the_training_run():
    logits = random_logits(classes=9)
    subject = asked(logits)
    labels = np.arange(23) % 9
    expected = means(classification_sums(mx.nd.array(logits), mx.nd.array(labels), 23))
    assert ask(subject).scores == pytest.approx(expected, rel=1e-6)


def test_every_number_of_an_image_by_hand():
    answers = ask(asked(np.log(np.array([[0.2, 0.5, 0.2, 0.1], [0.1, 0.6, 0.2, 0.1]]))))
    np.testing.assert_array_equal(answers.label, [0, 1])
    np.testing.assert_array_equal(answers.predicted, [1, 1])
    np.testing.assert_array_equal(answers.rank, [2, 0])  # one class is as likely as the label
    np.testing.assert_allclose(answers.probability, [0.2, 0.6], rtol=1e-6)
    np.testing.assert_allclose(answers.confidence, [0.5, 0.6], rtol=1e-6)
    np.testing.assert_allclose(answers.loss, [-np.log(0.2), -np.log(0.6)], rtol=1e-6)


def test_a_tie_is_no_hit_anywhere():
    answers = ask(asked(np.zeros((8, 4))))
    assert answers.scores["top1"] == 0 and (answers.predicted != answers.label).all()
    assert np.trace(confusion_matrix(answers, 4)) == 0


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="the logits of a.params are not finite"):
        ask(asked(np.full((8, 4), np.nan)))


@pytest.mark.parametrize(
    "hits, images, low, high",
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_wilsons(hits, images, low, high):
    assert interval(hits / images, images) == pytest.approx((low, high), abs=5e-5)
    mirrored = interval(1 - hits / images, images)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_classes_and_confusions_by_hand():
    label, predicted = np.array([0, 0, 0, 0, 2, 2, 2]), np.array([0, 1, 1, 3, 0, 2, 0])
    answers = Answers(label, predicted, *[np.zeros(7)] * 3, (label != predicted).astype(int))
    subject = asked(random_logits(), NAMES)
    rows = class_rows(subject, answers)
    assert [row[2:] for row in rows] == [
        (4, 0.25, NAMES[1], 2),
        (0, None, None, None),
        (3, pytest.approx(1 / 3), NAMES[0], 2),
        (0, None, None, None),
    ]
    matrix = confusion_matrix(answers, 4)
    assert matrix.tolist() == [[1, 2, 0, 1], [0, 0, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    # Two of three weigh more than two of four.
    assert [tuple(found) for found in most_confused(matrix, 9)] == [(2, 0, 2, 3), (0, 1, 2, 4), (0, 3, 1, 4)]
    assert len(most_confused(matrix, 1)) == 1


@pytest.mark.parametrize("classes", [4, 60])
def test_a_picture_for_few_and_for_many_classes(classes, tmp_path):
    names = (NAMES * 15)[:classes]
    subject = asked(random_logits(90, classes), names)
    draw_confusion(subject, ask(subject), tmp_path / "new" / "c.png")
    picture = cv2.imread(str(tmp_path / "new" / "c.png"))
    assert min(picture.shape[:2]) >= 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_the_worst_images_come_in_their_order_and_as_the_network_was_shown_them():
    logits = random_logits(40, seed=3)
    subject = asked(logits, NAMES)
    answers = ask(subject, keep=9)
    places = [seen.place for seen in answers.worst]
    assert places == list(np.argsort(-answers.loss, kind="stable")[:9])
    shown = np.concatenate([batch.data.asnumpy()[: batch.num_valid] for batch in subject.data.val_batches()])
    for place, given in answers.worst:
        np.testing.assert_array_equal(given, shown[place])
    assert [len(ask(asked(logits), keep=keep).worst) for keep in (0, 100)] == [0, 40]


def test_of_equal_losses_the_first_images_are_kept():
    assert [seen.place for seen in ask(asked(np.zeros((30, 4))), keep=5).worst] == [0, 1, 2, 3, 4]


def test_the_page_holds_its_pictures_and_no_name_is_markup():
    subject = asked(random_logits(), NAMES)
    answers = ask(subject, keep=3)
    page = worst_page(subject, answers)
    assert "<b>ant</b>:" not in page and "bee & wasp" not in page
    assert "&lt;b&gt;ant&lt;/b&gt;" in page or "bee &amp; wasp" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for content, (_, given) in zip(re.findall(r"data:image/png;base64,([^\"]*)", page), answers.worst):
        seen = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(seen, as_pixels(given, subject.data.preprocessing))
    worst = answers.worst[0].place
    assert f"{answers.probability[worst]:.2%}" in page and f"{answers.confidence[worst]:.2%}" in page
    assert subject.data.val_where(worst) in page and page.count("<figure>") == 3


def test_large_images_become_thumbnails():
    subject = asked(random_logits(2), image_size=400)
    page = worst_page(subject, ask(subject, keep=1))
    [content] = re.findall(r"data:image/jpeg;base64,([^\"]*)", page)
    seen = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert max(seen.shape) == 192


def test_one_image_of_a_path_is_escaped():
    subject = asked(random_logits(1))
    data = SimpleNamespace(**{name: getattr(subject.data, name) for name in ("settings", "preprocessing")})
    data.val_where = lambda place: "photos/<script>.jpg"
    page = worst_page(subject._replace(data=data), ask(subject, keep=1))
    assert "<script>" not in page and "photos/&lt;script&gt;.jpg" in page
