"""Holds the API against its own OpenAPI document: a controller with the three-tier example, over TLS, as its admin.

    openapi.py BULKHEADD [OPTION...]

Options are handed on to schemathesis.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import requests
import schemathesis
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Longest that the controller may take to start.
PATIENCE = 60
# Of examples the description has none.
PHASES = ["coverage", "fuzzing", "stateful"]
# What a document may say is more than a schema can: that names exist, that addresses fit. So what fits a schema may be
# refused (422), and most of it is.
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
        "allow_header_conformance",
        "use_after_free",
        "ensure_resource_availability",
        "ignored_auth",
    ]
)


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    """A backup, which schemathesis knows no form of."""
    return {"data": str(value).encode()}


def documents():
    """The example, with a switch that is simulated."""
    for file in sorted((ROOT / "examples/three-tier").glob("*.yaml")):
        if file.name != "switch.yaml":
            yield from yaml.safe_load_all(file.read_text())
    yield {"kind": "Switch", "metadata": {"name": "hv1"}, "spec": {"driver": "sim"}}
    yield {
        "kind": "Switch",
        "metadata": {"name": "far"},
        "spec": {"driver": "kernel", "vtep": "192.0.2.9"},
    }
    yield {"kind": "AddressSet", "metadata": {"name": "corp"}, "spec": {"cidrs": ["198.51.100.0/24"]}}


def admin(data, daemon):
    """Where the API is, its authority, and the local admin's token, once they are told."""
    until = time.monotonic() + PATIENCE
    file = data / "admin.yaml"
    while time.monotonic() < until:
        if daemon.poll() is not None:
            sys.exit(f"bulkheadd has ended: {daemon.returncode}")
        if file.exists():
            context = yaml.safe_load(file.read_text())["contexts"]["local"]
            authority = data / "authority.pem"
            authority.write_text(context["ca"])
            try:
                if requests.get(context["server"] + "/readyz", verify=authority, timeout=5).ok:
                    return context["server"], authority, context["token"]
            except requests.RequestException:
                pass
        time.sleep(0.1)
    sys.exit("bulkheadd does not answer")


def held(daemon_path, options):
    """One run against a controller of its own; schemathesis' exit code."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-schemathesis-") as directory:
        data = pathlib.Path(directory)
        listen = ["--listen", "127.0.0.1:0", "--openflow-listen", "127.0.0.1:0"]
        with open(data / "log", "w") as log:
            daemon = subprocess.Popen([daemon_path, *listen, "--data-dir", directory], stdout=log, stderr=log)
        try:
            server, authority, token = admin(data, daemon)
            known = {"Authorization": f"Bearer {token}"}
            seeded = requests.post(server + "/v1/apply", json=list(documents()), headers=known, verify=authority, timeout=30)
            if not seeded.ok:
                sys.exit(f"the example is refused: {seeded.text}")
            program = pathlib.Path(sys.executable).parent / "schemathesis"
            run = [program, "run", server + "/openapi.json", "--checks", CHECKS]
            run += ["--header", f"Authorization: Bearer {token}", "--tls-verify", authority]
            # It does not end by itself; tests of its own are about it.
            run += ["--exclude-path", "/v1/watch", "--continue-on-failure", "--request-timeout", "95"]
            # Between two requests more time may pass than a connection is kept without one.
            run += ["--request-retries", "1"]
            # The same requests each time.
            run += ["--seed", "1", "--generation-database", "none", "--warnings", "off", *options]
            hooks = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "tests"), "SCHEMATHESIS_HOOKS": "openapi"}
            code = subprocess.run(run, cwd=directory, env={**os.environ, **hooks}).returncode
            if daemon.poll() is not None:
                sys.exit(f"bulkheadd has ended: {daemon.returncode}\n{(data / 'log').read_text()[-2000:]}")
            return code
        finally:
            daemon.terminate()
            daemon.wait(timeout=PATIENCE)


def main():
    daemon_path, options = sys.argv[1], sys.argv[2:]
    if "--phases" in options:
        sys.exit(held(daemon_path, options))
    # What one phase deletes is there again for the next.
    codes = [held(daemon_path, ["--phases", phase, *options]) for phase in PHASES]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
