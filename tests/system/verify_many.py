"""The second verifier's verdicts on many receipts, in one process: cases as JSON on stdin, verdicts as JSON on stdout."""

import base64
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "sdk-python"))

import assay_chain
import assay_verify


def judged(case: dict) -> dict:
    trust = assay_verify.parse_trust(case["trust"])
    chain = assay_chain.read_chain(case["chain"], trust.chains) if case["chain"] else None
    receipt, blobs = base64.b64decode(case["receipt"]), tuple(map(base64.b64decode, case["blobs"]))
    verdict = assay_verify.verify(receipt, trust, assay_verify.Policy(), case["now"], chain, blobs)
    rows = {row.check: [row.result, row.code, row.detail] for row in verdict.rows}
    return {"status": verdict.status, "code": verdict.code, "rows": rows}


print(json.dumps([judged(case) for case in json.load(sys.stdin)]))
