"""Runs the checks: each function check_… of these modules prints `test deploy::NAME ... ok|FAILED|ignored`."""

import sys
import traceback

import chart
import observability
import packages
import plain
from render import Skipped

failed = False
for module in (chart, plain, observability, packages):
    for name, check in vars(module).items():
        name = name.removeprefix("check_") if name.startswith("check_") else None
        # The arguments are parts of names; none: all.
        if name is None or (sys.argv[1:] and not any(part in name for part in sys.argv[1:])):
            continue
        try:
            check()
            result = "ok"
        except Skipped as why:
            result = f"ignored, {why}"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            result, failed = "FAILED", True
        print(f"test deploy::{name} ... {result}", flush=True)
sys.exit(failed)
