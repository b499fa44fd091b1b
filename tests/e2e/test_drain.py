"""An operator has the GPU drained that serves somebody: he goes on elsewhere, and the worker ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.test_serve import processes, served, until
from tests.runtime.gateway.live import ADMIN_TOKEN, chunks


def test_who_is_served_goes_on_elsewhere_and_the_gpu_is_used_again(tmp_path: Path) -> None:
    token, state = tmp_path / "token", tmp_path / "state"
    token.write_text(ADMIN_TOKEN)
    with served(state, "--workers=2", "--model=emulated", f"--admin-token-file={token}") as (place, _):

        def operator(method: str, path: str) -> Any:
            return place.call(method, path, token=ADMIN_TOKEN).body

        def gpu(name: str) -> Any:
            return next(each for each in operator("GET", "/v1/gpus") if each["gpu_id"] == name)

        session = place.create(profile="shapes-32", prompt="red circle")
        opened = place.start(session)
        chunks(opened, 2)
        (listed,) = operator("GET", "/v1/sessions")["sessions"]
        name = listed["worker"]
        assert gpu(name)["sessions"] == 1
        assert place.call("POST", f"/v1/gpus/{name}/drain").status == 404, "only the operator may"
        assert place.call("POST", "/v1/gpus/h100-9/drain", token=ADMIN_TOKEN).status == 404
        assert operator("POST", f"/v1/gpus/{name}/drain")["withheld"]
        until(lambda: not processes(state, f"--name={name}"), "its worker has ended")
        assert gpu(name) == {"gpu_id": name, "gpu_type": "cpu", "status": "lost", "withheld": True, "sessions": 0}
        found = chunks(opened, 4)
        assert not any(chunk.discontinuity for chunk in found)
        assert {chunk.lineage for chunk in found} == {0}
        (listed,) = operator("GET", "/v1/sessions")["sessions"]
        assert listed["worker"] not in (name, None)
        assert operator("POST", f"/v1/gpus/{name}/give-back")["withheld"] is False
        until(lambda: gpu(name)["status"] in ("off", "starting", "ready"), "it can be used again")
