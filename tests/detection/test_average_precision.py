"""Average precision: hand-made cases, the development kit of VOC word by word, GluonCV and pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest

from gluon_effnets.detection import DetectionScores, Truth
from gluon_effnets.detection.average_precision import KINDS, overlaps
from gluon_effnets.runtime.detections import overlaps as runtime_overlaps

pytestmark = pytest.mark.fast

COCO_NAMES = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
COCO_NAMES += ["AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"]
# Of `random_cases(0, images=30)`.
STORED = [
    0.1383198351668854,
    0.22483670913995701,
    0.158949068039802,
    0.1972407093861101,
    0.1764326064417218,
    0.2678217821782178,
    0.21449172576832154,
    0.5285697399527186,
    0.5387470449172577,
    0.543560606060606,
    0.5193362193362192,
    0.6,
]


def truth(image, boxes, classes=None, difficult=None, areas=None):
    classes = [0] * len(boxes) if classes is None else classes
    difficult = [False] * len(boxes) if difficult is None else difficult
    return Truth(
        image, (200, 300), np.array(boxes, float).reshape(-1, 4), np.array(classes), np.array(difficult, bool), areas
    )


def scored(kind, cases, classes=1):
    scores = DetectionScores(classes, kind)
    for about, found in cases:
        boxes, values, labels = zip(*found) if found else ((), (), ())
        scores.add(about, np.array(boxes, float).reshape(-1, 4), np.array(values), np.array(labels))
    return scores


def random_cases(seed, images=12, classes=3, areas=True, ties=True, whole=True):
    """Objects of all sizes, some of them difficult, and detections near them and elsewhere, with equal scores."""
    random = np.random.RandomState(seed)
    cases = []
    for image in random.permutation(images):
        number = random.randint(0, 8)
        sides = np.exp(random.uniform(np.log(8), np.log(180), (number, 2)))
        boxes = np.concatenate([random.uniform(0, 60, (number, 2)), sides], axis=1)
        boxes[:, 2:] += boxes[:, :2]
        found, labels = [], random.randint(0, classes, number)
        labels[: number // 2] = 0
        for box, label in zip(boxes, labels):
            for _ in range(random.randint(0, 4)):
                near = box + random.normal(0, 0.08, 4) * np.tile(box[2:] - box[:2], 2)
                near[2:] = np.maximum(near[2:], near[:2] + 1)
                found.append((near, random.rand(), label if random.rand() < 0.9 else random.randint(classes)))
        for _ in range(random.randint(0, 30)):
            corner = random.uniform(0, 100, 2)
            found.append(
                (np.append(corner, corner + random.uniform(4, 120, 2)), random.rand(), random.randint(classes))
            )
        boxes = np.rint(boxes) if whole else boxes
        found = [(np.rint(b) if whole else b, round(s, 1) if ties else s, c) for b, s, c in found]
        found = [(box + [0, 0, 1, 1], score, label) for box, score, label in found]
        own = random.uniform(0.5, 1, number) * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if areas else None
        cases.append((truth(str(image), boxes, labels, random.rand(number) < 0.15, own), found))
    return cases


# Two objects; one is found, then found again, and a detection lies elsewhere.
TWO = [
    (
        truth("1", [[0, 0, 40, 40], [100, 100, 140, 140]]),
        [([0, 0, 40, 40], 0.9, 0), ([0, 0, 40, 36], 0.8, 0), ([50, 0, 90, 40], 0.7, 0), ([100, 100, 140, 130], 0.6, 0)],
    )
]


def test_two_objects_by_hand():
    # Hit, duplicate, miss, hit: precision 1, 1/2, 1/3, 1/2 at recalls 1/2, 1/2, 1/2, 1.
    assert scored("voc07", TWO).result().mean == pytest.approx((6 * 1 + 5 * 0.5) / 11, abs=1e-15)
    assert scored("voc12", TWO).result().mean == pytest.approx(0.5 * 1 + 0.5 * 0.5, abs=1e-15)
    # COCO: the last one has an overlap of 0.75, thus counts for 6 of 10 overlaps; the duplicate is taken by none.
    figures = scored("coco", TWO).result().figures
    half, full = 51 / 101, (51 + 50 * 0.5) / 101
    assert list(figures) == COCO_NAMES
    assert figures["AP"] == pytest.approx(0.6 * full + 0.4 * half, abs=1e-12)
    assert figures["AP50"] == pytest.approx(full, abs=1e-12) and figures["AP75"] == pytest.approx(full, abs=1e-12)
    assert math.isnan(figures["AP_small"]) and math.isnan(figures["AR_large"])
    assert figures["AP_medium"] == figures["AP"]
    assert (figures["AR_1"], figures["AR_10"]) == pytest.approx((0.5, 0.8), abs=1e-12)
    curve = scored("voc12", TWO).result().curves["0"]
    assert curve.recall.tolist() == [0.5, 0.5, 0.5, 1] and curve.precision.tolist() == [1, 0.5, 1 / 3, 0.5]
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert scored("voc12", TWO).result().counts["0"] == (2, 4, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_objects_is_no_part_of_the_mean(kind):
    found = [([0, 0, 40, 40], 0.9, 0), ([0, 0, 40, 40], 0.8, 2)]
    result = scored(kind, [(truth("1", [[0, 0, 40, 40], [0, 50, 40, 90]], [0, 1]), found)], 3).result()
    assert result.by_class["0"] == pytest.approx(1) and result.by_class["1"] == 0
    assert math.isnan(result.by_class["2"]) and result.mean == pytest.approx(0.5)
    assert list(result.curves) == ["0", "1"] and result.counts["2"] == (0, 1, 0)
    assert math.isnan(scored(kind, []).result().mean)


@pytest.mark.parametrize("kind", KINDS)
def test_difficult_objects_count_for_nothing(kind):
    about = truth("1", [[0, 0, 40, 40], [100, 100, 140, 140]], difficult=[True, False])
    # Twice on the difficult one, better than the other.
    found = [([0, 0, 40, 40], 0.9, 0), ([0, 0, 40, 39], 0.8, 0), ([100, 100, 140, 140], 0.7, 0)]
    result = scored(kind, [(about, found)]).result()
    assert result.mean == pytest.approx(1) and result.counts["0"] == (1, 1, 1)


def test_a_crowd_is_found_by_what_lies_in_it():
    """To VOC a small box within a large difficult one is a false detection; in a crowd of COCO it is none."""
    about = truth("1", [[0, 0, 200, 100], [210, 100, 240, 140]], difficult=[True, False])
    found = [([10 * n, 0, 10 * n + 40, 40], 0.9, 0) for n in range(3)] + [([210, 100, 240, 140], 0.5, 0)]
    assert scored("coco", [(about, found)]).result().mean == pytest.approx(1, abs=1e-12)
    assert scored("voc12", [(about, found)]).result().mean == 0.25


def test_an_overlap_of_one_half_is_enough():
    half, less = [0, 0, 40, 20], [0, 0, 40, 19.99]
    for kind, enough in (("voc07", 1), ("voc12", 1), ("coco", 0.1)):
        about = truth("1", [[0, 0, 40, 40]])
        assert scored(kind, [(about, [(half, 0.5, 0)])]).result().mean == pytest.approx(enough, abs=1e-12)
        assert scored(kind, [(about, [(less, 0.5, 0)])]).result().mean == 0


def test_coco_takes_a_hundred_detections_of_a_class():
    about = truth("1", [[0, 0, 40, 40]])
    for before, mean in ((99, 1 / 100), (100, 0)):
        found = [([100, 100, 140, 140], 0.9, 0)] * before + [([0, 0, 40, 40], 0.5, 0)]
        assert scored("coco", [(about, found)]).result().figures["AP50"] == pytest.approx(mean, abs=1e-12)
        assert scored("voc12", [(about, found)]).result().mean == pytest.approx(1 / (before + 1))


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [20, 0, 20, 10]], float)
    assert overlaps(boxes, boxes[:2]).tolist() == [[1, 25 / 175], [25 / 175, 1], [0, 0]]
    assert overlaps(boxes, boxes[:2], [False, True]).tolist()[0] == [1, 0.25]


def devkit(cases, label, area):
    """VOCevaldet.m, line by line, on boxes with inclusive corners from 1, and VOCap.m or the loop over 11 recalls."""
    objects, lines = {}, []
    for about, found in cases:
        mine = about.classes == label
        boxes = about.boxes[mine] + [1, 1, 0, 0]
        objects[about.image] = (boxes, about.difficult[mine], np.zeros(len(boxes), bool))
        lines += [(about.image, s, np.array(b) + [1, 1, 0, 0]) for b, s, c in found if c == label]
    positives = sum((~difficult).sum() for _, difficult, _ in objects.values())
    tp, fp = np.zeros((2, len(lines)))
    for d, i in enumerate(np.argsort([-s for _, s, _ in lines], kind="stable")):
        image, _, bb = lines[i]
        best, place = -np.inf, None
        for j, gt in enumerate(objects[image][0]):
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1) + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1) - iw * ih
                if iw * ih / ua > best:
                    best, place = iw * ih / ua, j
        if best < 0.5:
            fp[d] = 1
        elif not objects[image][1][place]:
            if objects[image][2][place]:
                fp[d] = 1
            else:
                tp[d] = objects[image][2][place] = 1
    fp, tp = np.cumsum(fp), np.cumsum(tp)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = tp / positives, tp / (fp + tp)
    if not positives:
        return math.nan
    if area == "voc07":
        levels = [precision[recall >= t] for t in np.arange(0, 1.1, 0.1)]
        return sum(np.fmax.reduce(level, initial=0) / 11 for level in levels)
    recall, precision = np.array([0, *recall, 1]), np.array([0, *precision, 0])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = np.fmax(precision[i], precision[i + 1])
    i = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return ((recall[i] - recall[i - 1]) * precision[i]).sum()


@pytest.mark.parametrize("kind", ["voc07", "voc12"])
@pytest.mark.parametrize("seed", range(4))
def test_voc_is_the_development_kit(kind, seed):
    cases = sorted(random_cases(seed), key=lambda case: int(case[0].image))
    found = scored(kind, cases, 4).result().by_class
    expected = {str(label): devkit(cases, label, kind) for label in range(4)}
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert 0.05 < np.nanmean(list(expected.values())) < 0.95


@pytest.mark.parametrize("kind", ["voc07", "voc12"])
@pytest.mark.parametrize("seed", range(3))
def test_voc_is_gluoncvs_metric(kind, seed):
    """Without equal scores, whose order is left to chance there, and with inclusive corners."""
    from gluon_effnets._gluoncv import import_gluoncv

    import_gluoncv()
    from gluoncv.utils.metrics import voc_detection

    names = ["a", "b", "c"]
    metric = {"voc07": voc_detection.VOC07MApMetric, "voc12": voc_detection.VOCMApMetric}[kind](0.5, names)
    cases = random_cases(seed, ties=False)
    for about, found in cases:
        boxes, values, labels = (np.array(part) for part in zip(*found)) if found else np.zeros((3, 0))
        boxes = boxes.reshape(-1, 4) - [0, 0, 1, 1]
        own = about.boxes - [0, 0, 1, 1]
        batch = (boxes, labels, values, own, about.classes, about.difficult)
        metric.update(*(array[None] for array in batch))
    result = scored(kind, cases, names).result()
    assert dict(zip(*metric.get())) == pytest.approx({**result.by_class, "mAP": result.mean}, abs=1e-12)


def with_pycocotools(cases, classes):
    """The 12 figures and the AP of every class, nan where there are no objects."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for about, found in cases:
        for n, box in enumerate(about.boxes):
            sides = box[2:] - box[:2]
            area = np.prod(sides) if about.areas is None else about.areas[n]
            entry = {"image_id": int(about.image), "category_id": int(about.classes[n]), "bbox": [*box[:2], *sides]}
            entry.update(id=len(annotations) + 1, area=float(area), iscrowd=int(about.difficult[n]))
            annotations.append(entry)
        for box, score, label in found:
            box = np.array(box, float)
            entry = {"image_id": int(about.image), "category_id": int(label), "bbox": [*box[:2], *box[2:] - box[:2]]}
            results.append({**entry, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        true = coco.COCO()
        images = [{"id": int(about.image)} for about, _ in cases]
        true.dataset = {"images": images, "annotations": annotations, "categories": [{"id": n} for n in range(classes)]}
        true.createIndex()
        evaluation = cocoeval.COCOeval(true, true.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    own = [precision[:, :, k][precision[:, :, k] > -1] for k in range(classes)]
    stats = [math.nan if value == -1 else value for value in evaluation.stats]
    return stats, {str(k): values.mean() if values.size else math.nan for k, values in enumerate(own)}


@pytest.mark.parametrize("seed", range(8))
def test_coco_is_pycocotools(seed):
    whole = seed % 2 == 0
    cases = random_cases(seed, images=30, classes=3, areas=seed % 4 < 2, ties=whole, whole=whole)
    stats, by_class = with_pycocotools(cases, 4)
    result = scored("coco", cases, 4).result()
    assert list(result.figures.values()) == pytest.approx(stats, abs=1e-12, nan_ok=True)
    assert result.by_class == pytest.approx(by_class, abs=1e-12, nan_ok=True)
    assert result.mean == result.figures["AP"] and 0.02 < result.mean < 0.9


def test_coco_without_pycocotools():
    """The figures of one case, by pycocotools 2.0.7, which the test above compares with where it is installed."""
    result = scored("coco", random_cases(0, images=30), 4).result()
    assert list(result.figures.values()) == pytest.approx(STORED, abs=1e-12)
    assert list(result.figures) == COCO_NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_workers_together_know_what_one_knows(kind):
    cases = random_cases(5)
    whole = scored(kind, cases, ["a", "b", "c"])
    halves = [scored(kind, part, ["a", "b", "c"]).rows() for part in (cases[1::2], [], cases[::2])]
    assert whole.rows().dtype == np.float64 and halves[1].shape == (0, 8)
    again = DetectionScores.of_rows(["a", "b", "c"], kind, np.concatenate(halves))
    assert again.result().figures == whole.result().figures
    assert again.result().by_class == whole.result().by_class
    for mine, theirs in zip(again.images, whole.images):
        assert mine.truth.image == theirs.truth.image and mine.truth.size == theirs.truth.size
        for one, other in zip((*mine.truth[2:], *mine[1:]), (*theirs.truth[2:], *theirs[1:])):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="is there twice"):
        DetectionScores.of_rows(3, kind, np.concatenate([halves[0], halves[0]]))


def test_names_of_images_travel_with_the_rows():
    names = ["a", "", "000012", "ünïcode/" * 20, "x" * 42, "\udcff.jpg", "2", "10"]
    scores = scored("voc12", [(truth(name, [[0, 0, 1, 1]]), []) for name in names])
    again = DetectionScores.of_rows(1, "voc12", scores.rows())
    assert {seen.truth.image for seen in again.images} == set(names)
    assert [seen.truth.image for seen in again.images][:3] == ["2", "10", "000012"]
    assert all(seen.truth.areas is None for seen in again.images)


def test_places_without_a_detection_are_passed_over():
    scores = DetectionScores(2, "voc12")
    scores.add(truth("1", [[0, 0, 40, 40]]), [[0, 0, 40, 40], [-1] * 4], [0.5, -1], [0, -1])
    assert scores.result().mean == 1 and len(scores.images[0].scores) == 1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no scores 'voc'; choose from voc07, voc12, coco"):
        DetectionScores(1, "voc")
    scores = scored("coco", TWO)
    about = truth("2", [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="image 1 is there twice"):
        scores.add(*scores.images[0])
    with pytest.raises(ValueError, match="class of a detection on 2 is none of 1"):
        scores.add(about, [[0, 0, 1, 1]], [0.5], [1])
    with pytest.raises(ValueError, match="class of an object on 2 is none of 1"):
        scores.add(about._replace(classes=np.array([1])), np.empty((0, 4)), [], [])
    for box, score in (([0, 0, 1, np.nan], 0.5), ([0, 0, 1, 1], np.inf)):
        with pytest.raises(ValueError, match="no finite number"):
            scores.add(about, [box], [score], [0])
    assert len(scores.images) == 1


WRONG = {
    "fewer classes than boxes": ({}, {"classes": []}, "these are no objects and detections of 2"),
    "a ragged box": ({}, {"boxes": [[0, 0, 1]]}, "cannot reshape"),
    "a class that is no number": ({}, {"classes": [np.nan]}, "a class is no number"),
    "an endless class": ({}, {"classes": [10**400]}, "these are no objects and detections of 2"),
    "an endless size": ({"size": (np.inf, 1)}, {}, "these are no objects and detections of 2"),
    "no size": ({"size": ()}, {}, "these are no objects and detections of 2"),
    "an object that is nowhere": ({"boxes": np.full((1, 4), np.nan)}, {}, "the truth of 2 is no finite number"),
    "an area too many": ({"areas": np.ones(2)}, {}, "not as many"),
}


@pytest.mark.parametrize("what", WRONG)
def test_arrays_that_do_not_go_together_are_one_sentence(what):
    of_truth, of_found, reason = WRONG[what]
    found = {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "classes": [0], **of_found}
    scores = DetectionScores(1, "voc07")
    with pytest.raises(ValueError, match=reason):
        scores.add(truth("2", [[0, 0, 1, 1]])._replace(**of_truth), **found)
    assert not scores.images


def test_what_is_no_truth_and_no_number_of_classes():
    scores = DetectionScores(1, "voc07")
    with pytest.raises(TypeError, match="truth is None.*it must be a Truth"):
        scores.add(None, [], [], [])
    with pytest.raises(TypeError, match="truth.image is 7.*it must be a text"):
        scores.add(truth(7, [[0, 0, 1, 1]]), [], [], [])
    for classes, kind in (("cat", TypeError), (0, ValueError), (10**9, ValueError), ([None], ValueError)):
        with pytest.raises(kind, match="classes of the scores"):
            DetectionScores(classes)
    with pytest.raises(ValueError, match="there are no scores") as caught:
        DetectionScores(1, "x" * 100_000)
    assert len(str(caught.value)) < 500


def test_the_interval_is_the_bootstrap_over_images():
    """Of 40 images half are right: the mean of n draws is binomial, and so are its quantiles."""
    about = [truth(str(n), [[0, 0, 40, 40]]) for n in range(40)]
    result = scored("voc12", [(each, [([0, 0, 40, 40], 0.9, 0)] * (n % 2)) for n, each in enumerate(about)]).result()
    low, high = result.interval()
    assert result.mean == 0.5 and (low, high) == result.interval()
    assert low == pytest.approx(0.35, abs=0.04) and high == pytest.approx(0.65, abs=0.04)
    sure = scored("coco", [(each, [([0, 0, 40, 40], 0.9, 0)]) for each in about]).result()
    assert sure.interval() == pytest.approx((1, 1))
    assert all(map(math.isnan, scored("voc07", []).result().interval()))


def test_weights_of_the_bootstrap_are_repeated_images():
    cases = random_cases(1, images=6, ties=False)
    for kind in KINDS:
        result = scored(kind, cases, 3).result()
        weights = np.array([2, 0, 1, 3, 0, 1])
        ordered = sorted(cases, key=lambda case: int(case[0].image))
        repeated = [
            (about._replace(image=f"{about.image}{copy}"), found)
            for (about, found), count in zip(ordered, weights)
            for copy in range(count)
        ]
        expected = scored(kind, repeated, 3).result()
        for label in range(3):
            mine = np.mean(result._class_areas(result._counted(label), weights))
            assert mine == pytest.approx(expected.by_class[str(label)], abs=1e-12, nan_ok=True)


def test_endless_boxes_overlap_nothing_and_warn_of_nothing():
    """As a detector has them that has diverged."""
    endless = np.array([[-np.inf, -np.inf, np.inf, np.inf], [0, 0, 4, 4], [-3e38, -3e38, 3e38, 3e38]], np.float32)
    with np.errstate(all="raise"):
        assert not (runtime_overlaps(endless[0], endless[1:]) > 0.5).any()
        assert not (overlaps(endless, endless[1:2]) > 0.5)[[0, 2]].any()
