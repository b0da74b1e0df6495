"""Asks an Open Inference Protocol server with two clients that its authors did not write.

Usage: foreign_clients.py URL MODEL INPUT ROWS...   where a row is JSON numbers, all rows of one shape.
Prints one JSON object: what each client was told of the model, and the outputs it got for the rows.
"""

import json
import sys
from urllib.parse import quote, urlsplit

import numpy
import tritonclient.http
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.types import InferenceRequest


def plain(array):
    """An array as JSON has it, with float32 values exactly as they are."""
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.reshape(-1).tolist()}


def triton(url, model, name, rows, binary):
    client = tritonclient.http.InferenceServerClient(urlsplit(url).netloc)
    try:
        facts = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "modelReady": client.is_model_ready(model),
            "absentReady": client.is_model_ready("demo/no-such-model"),
            "server": client.get_server_metadata(),
            "model": client.get_model_metadata(model),
        }
        tensor = tritonclient.http.InferInput(name, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        names = [output["name"] for output in facts["model"]["outputs"]]
        wanted = [tritonclient.http.InferRequestedOutput(output, binary_data=binary) for output in names]
        result = client.infer(model, [tensor], outputs=wanted, request_id="a-foreign-request")
        facts["id"] = result.get_response()["id"]
        facts["receipt"] = result.get_response().get("parameters", {})
        facts["outputs"] = {output: plain(result.as_numpy(output)) for output in names}
        try:
            client.infer(model, [tritonclient.http.InferInput(name, [1], "FP32").set_data_from_numpy(rows[:1, 0, 0, 0])])
            facts["refusal"] = None
        except tritonclient.http.InferenceServerException as refusal:
            facts["refusal"] = {"status": refusal.status(), "message": refusal.message()}
        return facts
    finally:
        client.close()


def openapi(url, model, name, rows):
    client = OpenInferenceClient(base_url=url)
    segment = quote(model, safe="")
    request = InferenceRequest(
        inputs=[{"name": name, "datatype": "FP32", "shape": list(rows.shape), "data": rows.reshape(-1).tolist()}]
    )
    answer = client.model_infer(segment, request=request)
    return {
        "model": json.loads(client.read_model_metadata(segment).json()),
        "outputs": {output.name: json.loads(output.json()) for output in answer.outputs},
    }


def main():
    url, model, name, *texts = sys.argv[1:]
    rows = numpy.array([json.loads(text) for text in texts], dtype=numpy.float32)
    print(
        json.dumps(
            {
                "binary": triton(url, model, name, rows, True),
                "json": triton(url, model, name, rows, False),
                "openapi": openapi(url, model, name, rows),
            }
        )
    )


main()
