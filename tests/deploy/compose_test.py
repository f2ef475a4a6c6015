#!/usr/bin/env python3
"""The compose demo, as a person starts it; then what may break while it runs.  Every run must end
with the parameters of one process that saw the whole batches."""
import json
import re
import socket
import urllib.request

import engine

engine.require()
import stack as compose  # noqa: E402

STEPS = 200
BOUND = 1e-9  # as the demo's: measured 7e-13, and a mistake shows at 1e-3
IMAGES = "500"  # to evaluate on


class World:
    """A stack that is up from the first test on, and its ports."""

    def __init__(self):
        self.variables = {"SYNCNORM_DEMO_STATUS_PORT": str(free_port()),
                          "SYNCNORM_DEMO_PROMETHEUS_PORT": str(free_port()),
                          "SYNCNORM_DEMO_TEST_IMAGES": IMAGES}
        self.stack = engine.make_stack("compose", SYNCNORM_DEMO_STEPS=str(STEPS), **self.variables)

    def get(self, port, path):
        url = f"http://127.0.0.1:{self.variables[f'SYNCNORM_DEMO_{port}_PORT']}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()

    def late_seconds(self):
        """{rank: how late it came, in all}, by the page's port."""
        try:
            text = self.get("STATUS", "/metrics")
        except OSError:  # not up yet
            return {}
        return {rank: float(value) for rank, value in re.findall(
            r'^syncnorm_rank_late_seconds_total{[^}]*rank="(\d+)"[^}]*} (\S+)$', text, re.MULTILINE)}

    def step(self):
        """The last that rank 0 told of."""
        found = re.findall(r"^step (\d+) of", self.stack.logs("trainer-0", tail=5), re.MULTILINE)
        return int(found[-1]) if found else 0

    def await_step(self, step):
        engine.await_that(lambda: self.step() >= step, lambda: self.all_logs(), 90)

    def kill_and_start(self, service):
        """As a machine that fails, and what then starts the container again."""
        before = self.stack.state(service)["StartedAt"]
        self.stack.call("kill", "-s", "KILL", f"syncnorm-{service}")
        # Some engines start it by themselves (restart: on-failure), some do not after a kill.
        self.stack.call("start", f"syncnorm-{service}", check=False)
        engine.await_that(lambda: self.stack.state(service)["Running"] and
                          self.stack.state(service)["StartedAt"] != before,
                          lambda: self.stack.state(service))

    def await_end(self):
        for name in compose.TRAINERS:
            engine.await_that(lambda name=name: not self.stack.state(name)["Running"],
                              lambda: self.all_logs(), 120)
            assert self.stack.state(name)["ExitCode"] == 0, self.all_logs()

    def all_logs(self):
        return "\n".join(f"--- {name}\n{self.stack.logs(name, tail=12)}"
                         for name in ("coordinator", *compose.TRAINERS))

    def differences(self, *names):
        text = self.stack.run("compare", "--compare=" + ",".join(f"/results/{n}.pt" for n in names))
        found = re.findall(r"^largest relative difference (\S+) in", text, re.MULTILINE)
        assert len(found) == len(names) - 1, text
        return [float(value) for value in found]

    def check_whole(self, run):
        ranks = [f"{run}.rank{rank}" for rank in compose.RANKS]
        assert self.differences(*ranks[1:], ranks[0]) == [0, 0, 0], "the ranks differ"
        (difference,) = self.differences(ranks[0], "whole")
        print(f"  {run} beside whole: {difference:.1e}")
        assert difference <= BOUND


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def one_command_trains_what_one_process_would_and_tells_who_is_late(world):
    with engine.start(engine.DEMO, "--no-build", f"--steps={STEPS}", "--slow-rank=3",
                      "--slow=20ms", **world.variables) as demo:
        late = engine.await_that(lambda: demo.over() or world.late_seconds().get("3", 0) > 1,
                                 world.late_seconds, 180) and world.late_seconds()
        status, said = demo.wait()
    assert status == 0, f"{said}\n{world.all_logs()}"
    assert late and max(late, key=late.get) == "3", f"seconds late by rank: {late}"
    assert "sync is whole, within 1e-09; the four ranks are equal bit for bit" in said, said
    print("  " + "\n  ".join(said.strip().splitlines()[-7:]))
    joined = world.stack.logs("trainer-3")
    assert "members 0,1,2,3" in joined, joined


def the_coordinator_is_healthy_until_it_hangs(world):
    """By the image's own check, which no engine without systemd runs by itself."""
    image = json.loads(world.stack.call("image", "inspect", world.stack.image("coordinator")))[0]
    check = (image.get("Healthcheck") or image["Config"]["Healthcheck"])["Test"][1:]
    command = [*world.stack.engine, "exec", "syncnorm-coordinator", *check]
    status, said = engine.run(*command)
    assert status == 0, said
    world.stack.call("kill", "-s", "STOP", "syncnorm-coordinator")
    try:
        status, said = engine.run(*command, "--timeout=1s")
    finally:
        world.stack.call("kill", "-s", "CONT", "syncnorm-coordinator")
    assert status != 0, said


def the_status_page_is_on_this_machine(world):
    assert "<html" in world.get("STATUS", "/statusz")
    assert world.get("STATUS", "/healthz") and world.get("STATUS", "/readyz")


def the_coordinators_own_tool_is_a_service(world):
    said = world.stack.run("ctl", "groups")
    assert "Error" not in said and re.search(r"group|none", said), said


def no_service_sees_more_of_the_certificates_than_its_own(world):
    for service in ("coordinator", "trainer-0"):
        mounts = {m["Destination"] for m in world.stack.inspect(service)["Mounts"]}
        assert not any("certs-authority" in m.get("Name", "") or "/certs" in m["Destination"]
                       for m in world.stack.inspect(service)["Mounts"]), mounts


def nothing_can_be_written_and_nothing_be_gained(world):
    for service in ("coordinator", "prometheus", "trainer-0"):
        host = world.stack.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert any("no-new-privileges" in option for option in host["SecurityOpt"]), service
    status, said = engine.run(*world.stack.engine, "exec", "syncnorm-coordinator", "sh", "-c",
                              "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/1/status")
    assert status == 0 and said.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16,
                                            "NoNewPrivs:", "1"], said


def ports_are_published_on_this_machine_only(world):
    for service in ("coordinator", "prometheus"):
        ports = world.stack.inspect(service)["HostConfig"]["PortBindings"]
        bound = {(name, b["HostIp"]) for name, bindings in ports.items()
                 for b in bindings or []}
        assert bound and all(ip == "127.0.0.1" for _, ip in bound), bound
        assert not any(name.startswith("7070") for name, _ in bound), "gRPC is for the network inside"


def prometheus_scrapes_the_coordinator(world):
    def up():
        answer = json.loads(world.get("PROMETHEUS", "/api/v1/query?query=up"))
        return [r["value"][1] for r in answer["data"]["result"]] == ["1"]
    engine.await_that(up, lambda: world.get("PROMETHEUS", "/api/v1/targets"), 30)


def a_coordinator_that_is_killed_and_started_costs_no_bit(world):
    world.stack.train_again(SYNCNORM_DEMO_RUN="killed", SYNCNORM_DEMO_SLOW_RANK="1",
                            SYNCNORM_DEMO_SLOW="40ms")
    world.await_step(20)
    world.kill_and_start("coordinator")
    assert world.step() < STEPS - 20, "the run was over too soon to say something"
    world.await_end()
    assert world.differences("killed.rank0", "killed.rank1", "killed.rank2", "killed.rank3",
                             "sync.rank0") == [0, 0, 0, 0], "not bit for bit the undisturbed run"


def a_worker_that_is_killed_comes_back_and_takes_part(world):
    world.stack.train_again(SYNCNORM_DEMO_RUN="shrunk", SYNCNORM_DEMO_SLOW_RANK="1",
                            SYNCNORM_DEMO_SLOW="80ms")
    world.await_step(20)
    world.kill_and_start("trainer-2")
    world.await_end()
    again = re.search(r"^rank 2 joined before step (\d+): epoch \d+, members 0,1,2,3$",
                      world.stack.logs("trainer-2").split("rank 2 joined before step 1:")[-1],
                      re.MULTILINE)
    assert again and 20 < int(again.group(1)) < STEPS, world.stack.logs("trainer-2")
    told = world.stack.logs("trainer-0")
    assert re.search(r"^rank 0 before step \d+: epoch \d+, members 0,1,3$", told, re.MULTILINE), told
    assert re.search(rf"^rank 0 before step {again.group(1)}: epoch \d+, members 0,1,2,3$", told,
                     re.MULTILINE), told
    print(f"  rank 2 came back before step {again.group(1)} of {STEPS}")
    world.check_whole("shrunk")


def sigterm_drains_the_coordinator(world):
    world.stack.call("kill", "-s", "TERM", "syncnorm-coordinator")
    state = engine.await_that(lambda: (s := world.stack.state("coordinator"))["Running"] is False
                              and s, lambda: world.stack.logs("coordinator"), 20)
    assert state["ExitCode"] == 0, state
    said = world.stack.logs("coordinator", tail=3)
    assert "draining" in said and "drained" in said, said


if __name__ == "__main__":
    WORLD = World()
    try:
        engine.main([
            one_command_trains_what_one_process_would_and_tells_who_is_late,
            the_coordinator_is_healthy_until_it_hangs,
            the_status_page_is_on_this_machine,
            the_coordinators_own_tool_is_a_service,
            no_service_sees_more_of_the_certificates_than_its_own,
            nothing_can_be_written_and_nothing_be_gained,
            ports_are_published_on_this_machine_only,
            prometheus_scrapes_the_coordinator,
            a_coordinator_that_is_killed_and_started_costs_no_bit,
            a_worker_that_is_killed_comes_back_and_takes_part,
            sigterm_drains_the_coordinator,
        ], WORLD)
    finally:
        WORLD.stack.down()
