#!/usr/bin/env python3
"""The checker of histories: a good history passes, and each violation is found in a doctored one.

usage: check_history_test.py
Exit status 77: skipped (says which module is missing).
"""
import copy
import sys
import unittest

try:
    import check_history
    import reference
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

WORLD, SEED, CHANNELS, TIMEOUT_US = 3, 5, 4, 1_000_000
PLACES = [(step, layer, direction) for step in range(2) for layer in range(2) for direction in (1, 2)]


class Run:
    """The histories of a group, written by hand.  Rank r is process 100 + r."""

    def __init__(self, on_loss="fail"):
        self.on_loss = on_loss
        self.now = 1_000_000
        self.files = []
        for rank in range(WORLD):
            self.start(rank, 100 + rank)

    def tick(self):
        self.now += 100
        return self.now

    def start(self, rank, pid):
        self.files.append([dict(e="worker", rank=rank, pid=pid, host="h", world=WORLD, group="g",
                                seed=SEED, channels=CHANNELS, on_loss=self.on_loss,
                                round_timeout_us=TIMEOUT_US, t=self.tick())])
        return len(self.files) - 1

    def add(self, file, **line):
        line.setdefault("t", self.tick())
        self.files[file].append(line)
        return line

    def join(self, epoch, files=range(WORLD), late=False):
        for file in files:
            self.add(file, e="joined", epoch=epoch, late=late, hosts=["h"] * WORLD, members=[])

    def rank(self, file):
        return self.files[file][0]["rank"]

    def call(self, file, epoch, place):
        step, layer, direction = place
        sent = reference.contribution(SEED, CHANNELS, self.rank(file), layer, direction, step)
        self.add(file, e="call", id=len(self.files[file]), epoch=epoch, layer=layer,
                 direction=direction, step=step, sent=sent.digest(), count=sent.count)
        return self.files[file][-1]["id"]

    def result(self, file, epoch, place, id, members=range(WORLD)):
        step, layer, direction = place
        parts = {r: reference.contribution(SEED, CHANNELS, r, layer, direction, step)
                 for r in members}
        total = reference.fold(parts, ["h"] * WORLD)
        return self.add(file, e="return", id=id, epoch=epoch, code="OK", text="", ranks=[],
                        count=total.count, got=total.digest(), waited=0)

    def failure(self, file, epoch, id, code, text, ranks):
        return self.add(file, e="return", id=id, epoch=epoch, code=code, text=text, ranks=ranks,
                        round=5, waited=0)

    def round(self, epoch, place, files=range(WORLD), members=range(WORLD)):
        ids = {file: self.call(file, epoch, place) for file in files}
        for file, id in ids.items():
            self.result(file, epoch, place, id, members)
        return ids

    def violations(self):
        checker = check_history.Checker()
        for file in self.files:
            checker.read(copy.deepcopy(file))
        return checker.check()


LOST = ('group "g" epoch 1 round 5 layer layer0 (forward, step 1): rank 2 (host h, pid 102) '
        "disconnected; epoch 1 is closed")


class CheckerTest(unittest.TestCase):
    def good(self, on_loss="fail"):
        run = Run(on_loss)
        run.join(1)
        for place in PLACES:
            run.round(1, place)
        return run

    def returns(self, run, file):
        return [line for line in run.files[file] if line["e"] == "return"]

    def expect(self, run, kind, *parts):
        violations = run.violations()
        self.assertEqual({v.split(":")[0] for v in violations}, {kind}, violations)
        for part in parts:
            self.assertIn(part, violations[0])

    def test_a_good_history_passes(self):
        self.assertEqual(self.good().violations(), [])

    def test_a_lost_member_and_a_new_epoch_pass(self):
        run = self.good()
        place = (2, 0, 1)
        ids = [run.call(file, 1, place) for file in (0, 1)]
        for file, id in enumerate(ids):
            run.failure(file, 1, id, "ABORTED", LOST, [2])
            run.add(file, e="ended", epoch=1, code="ABORTED", text=LOST, ranks=[2])
        newcomer = run.start(2, 202)
        run.join(2, (0, 1, newcomer))
        run.round(2, place, (0, 1, newcomer))
        self.assertEqual(run.violations(), [])

    def test_a_member_got_other_bytes(self):
        run = self.good()
        self.returns(run, 1)[3]["got"] = "0" * 16
        self.expect(run, "agreement", "rank 1 (pid 101)", "layer1")

    def test_all_members_got_wrong_bytes(self):
        run = self.good()
        for file in range(WORLD):
            self.returns(run, file)[3]["got"] = "0" * 16
        self.expect(run, "validity")

    def test_a_fold_in_another_order_is_not_the_canonical_one(self):
        run = self.good()
        # Three hosts, of which the first and the last are one: rank 2 is folded before rank 1.
        for file in range(WORLD):
            run.files[file][1]["hosts"] = ["a", "b", "a"]
        self.assertIn("validity", {v.split(":")[0] for v in run.violations()})

    def test_a_contribution_counted_twice(self):
        run = self.good()
        for file in range(WORLD):
            self.returns(run, file)[2]["count"] += 1
        self.expect(run, "at most once", "the members' counts")

    def test_a_result_without_a_member_s_contribution(self):
        run = self.good()
        last = max(i for i, line in enumerate(run.files[2]) if line["e"] == "call")
        del run.files[2][last:]
        self.expect(run, "validity", "ranks [2]", "never contributed")

    def test_what_was_sent_is_not_what_was_to_be_sent(self):
        run = self.good()
        [line for line in run.files[1] if line["e"] == "call"][4]["sent"] = "f" * 16
        self.expect(run, "validity", "rank 1 (pid 101)")

    def test_a_round_refused_for_one_member_only(self):
        run = self.good()
        line = self.returns(run, 0)[5]
        del line["got"]
        line.update(code="ABORTED", text=LOST, ranks=[2], round=5)
        self.expect(run, "one fate", "rank 0 (pid 100)")

    def test_a_call_beyond_its_deadline(self):
        run = self.good()
        id = run.call(0, 1, (2, 0, 1))
        run.now += TIMEOUT_US + 100_001
        run.failure(0, 1, id, "DEADLINE_EXCEEDED", LOST, [2])
        self.expect(run, "bounded", "rank 0 (pid 100)", "1100 ms")

    def test_a_call_is_not_late_while_its_process_was_stopped(self):
        run = self.good()
        id = run.call(0, 1, (2, 0, 1))
        start = run.tick()
        run.now += 5 * TIMEOUT_US
        run.files.append([dict(e="paused", pid=100, **{"from": start, "to": run.tick()})])
        run.failure(0, 1, id, "DEADLINE_EXCEEDED", LOST, [2])
        self.assertEqual(run.violations(), [])

    def test_texts_that_lack_a_name(self):
        for text, lacks in [(LOST.replace('"g"', ""), "group"),
                            (LOST.replace("epoch", "time"), "epoch"),
                            (LOST.replace("layer", ""), "layer"),
                            (LOST.replace("rank 2", "somebody"), "rank 2")]:
            run = self.good()
            for file in (0, 1):
                id = run.call(file, 1, (2, 0, 1))
                run.failure(file, 1, id, "ABORTED", text, [2])
            self.expect(run, "named failure", f"lacks {lacks}")

    def test_a_superseded_process_gets_a_result_for_what_it_calls_later(self):
        run = self.good("shrink")
        newcomer = run.start(2, 202)
        for file in (0, 1):
            run.add(file, e="epoch", epoch=2)
        run.join(2, [newcomer], late=True)
        run.round(2, (2, 0, 1), (0, 1, 2))
        self.expect(run, "fencing", "rank 2 (pid 102)", "rank 2 (pid 202) took its place")

    def test_an_old_epoch_gets_a_result_after_the_new_one_began(self):
        run = self.good()
        others = [run.start(rank, 200 + rank) for rank in range(WORLD)]
        run.join(2, others)
        run.round(1, (2, 0, 1))
        self.assertEqual({v.split(":")[0] for v in run.violations()}, {"fencing"})

    def test_a_call_that_never_ended(self):
        run = self.good()
        run.call(0, 1, (2, 0, 1))
        self.assertEqual(run.violations(), [], "its process may have died under it")
        run.add(0, e="ended", epoch=1, code="ABORTED", text=LOST, ranks=[2])
        self.expect(run, "complete", "rank 0 (pid 100)")

    def test_a_shrunk_group_s_results_are_those_of_the_members_that_are_left(self):
        run = self.good("shrink")
        place = (2, 0, 1)
        run.call(2, 1, place)  # and is lost: its contribution may count, or not
        run.round(2, place, (0, 1), members=(0, 1))
        run.round(2, (2, 1, 1), (0, 1), members=(0, 1))
        self.assertEqual(run.violations(), [])
        # But a member that got the result is one of those that it stands for.
        run.round(2, (3, 0, 1), (0, 1), members=(1,))
        self.assertEqual(len(run.violations()), 1)

    def test_an_epoch_s_number_may_come_again_when_nobody_remembers(self):
        run = self.good()
        others = [run.start(rank, 200 + rank) for rank in range(WORLD)]
        run.join(1, others)
        run.round(1, (0, 0, 1), others)
        self.assertEqual(run.violations(), [])

    def test_ranks_that_a_text_names(self):
        self.assertEqual(check_history.ranks_in("rank 3 (pid 9); ranks 0,2-4, and rank 7: x"),
                         {0, 2, 3, 4, 7})


if __name__ == "__main__":
    unittest.main()
