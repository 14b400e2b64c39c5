"""Send requests to the server at `argv[1]` (host:port) with tritonclient, and print the responses as JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

ROWS = np.array([[5.1, 3.5], [6.0, 2.2], [7.0, 3.0]])


def tensor(name, array, binary, datatype=None):
    made = triton.InferInput(name, array.shape, datatype or triton_type(array))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def triton_type(array):
    from tritonclient.utils import np_to_triton_dtype

    return np_to_triton_dtype(array.dtype)


def told(result, names):
    return {name: result.as_numpy(name).tolist() for name in names}


def texts(array):
    return [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]


def main(address):
    said = {}
    with triton.InferenceServerClient(address, network_timeout=60.0, connection_timeout=60.0) as client:
        said["live"], said["ready"] = client.is_server_live(), client.is_server_ready()
        said["model_ready"] = [client.is_model_ready("iris-two"), client.is_model_ready("iris-two", "1")]
        said["no_model_ready"] = [client.is_model_ready("nope"), client.is_model_ready("iris-two", "9")]
        said["server"] = client.get_server_metadata()
        said["metadata"] = client.get_model_metadata("iris-two", "1")
        said["config"] = client.get_model_config("iris-two")

        names = ["prediction", "probabilities"]
        for mode in ("json", "binary"):
            binary = mode == "binary"
            wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
            inputs = [tensor("x", ROWS, binary)]
            said[mode] = told(client.infer("iris-two", inputs, outputs=wanted, request_id="7"), names)
            columns = [tensor(f"feature{i + 1}", ROWS[:, [i]], binary) for i in range(2)]
            said[f"{mode}_columns"] = told(client.infer("iris-two", columns, model_version="1"), names)
        result = client.infer("iris-two", [tensor("x", ROWS, True)], request_id="id-1")
        said["id"], said["model_version"] = result.get_response()["id"], result.get_response()["model_version"]
        for dtype in ("float16", "float32", "int8", "int64", "uint8", "uint64"):
            whole = np.array([[5, 3]], dtype=dtype)
            said[dtype] = client.infer("iris-two", [tensor("x", whole, True)]).as_numpy("prediction").tolist()
        empty = client.infer("iris-two", [tensor("x", np.empty((0, 2)), True)])
        said["empty"] = [list(empty.as_numpy(name).shape) for name in names]
        aliases = [triton.InferRequestedOutput(name) for name in ("predict", "predict_proba", "output-0")]
        said["aliases"] = told(client.infer("iris-two", [tensor("x", ROWS, True)], outputs=aliases), ["predict"])

        large = np.tile(ROWS, (200, 1))
        for request in (None, "gzip", "deflate"):
            for response in (None, "gzip", "deflate"):
                for binary in (True, False):
                    result = client.infer(
                        "iris-two",
                        [tensor("x", large, binary)],
                        outputs=[triton.InferRequestedOutput(name, binary_data=binary) for name in names],
                        request_compression_algorithm=request,
                        response_compression_algorithm=response,
                    )
                    shapes = [list(result.as_numpy(name).shape) for name in names]
                    said[f"compressed {request} {response} {binary}"] = shapes

        text = lambda *values: np.array([[value] for value in values], dtype=object)  # noqa: E731
        penguins = [
            ("island", text("Torgersen", "Biscoe")),
            ("bill_length_mm", np.array([[39.1], [np.nan]])),
            ("bill_depth_mm", np.array([[18.7], [14.3]])),
            ("flipper_length_mm", np.array([[181.0], [210.0]])),
            ("body_mass_g", np.array([[3750.0], [4200.0]])),
            ("sex", text("male", "female")),
            ("year", np.array([[2007], [2009]])),
        ]
        for binary in (True, False):
            # The JSON of tritonclient has no null: it writes a bare NaN.
            sent = [tensor(name, array, binary) for name, array in penguins]
            wanted = [triton.InferRequestedOutput("prediction", binary_data=binary)]
            said[f"text {binary}"] = texts(client.infer("penguins", sent, outputs=wanted).as_numpy("prediction"))

        said["errors"] = []
        for model, inputs, outputs in (
            ("nope", [tensor("x", ROWS, True)], None),
            ("iris-two", [tensor("x", ROWS[:, :1], True)], None),
            ("iris-two", [tensor("x", np.array([[1.0, np.nan]]), True)], None),
            ("iris-two", [tensor("x", ROWS, True)], [triton.InferRequestedOutput("nope")]),
        ):
            try:
                client.infer(model, inputs, outputs=outputs)
            except InferenceServerException as error:
                said["errors"].append([error.status(), error.message()])
        for call in (client.get_trace_settings, lambda: client.get_model_metadata("nope")):
            try:
                call()
            except InferenceServerException as error:
                said["errors"].append([error.status(), error.message()])

        said["statistics"] = client.get_inference_statistics("iris-two")
        said["all_statistics"] = sorted({each["name"] for each in client.get_inference_statistics()["model_stats"]})
        said["index"] = client.get_model_repository_index()
        client.unload_model("iris-two", unload_dependents=True)
        said["unloaded"] = [client.is_model_ready("iris-two") for _ in range(20)]
        said["unloaded_index"] = client.get_model_repository_index()
        said["unloaded_errors"] = []
        for _ in range(20):
            try:
                client.infer("iris-two", [tensor("x", ROWS, True)])
            except InferenceServerException as error:
                said["unloaded_errors"].append(error.status())
        said["ready_without_it"] = client.is_server_ready()
        client.load_model("iris-two")
        said["loaded"] = [client.is_model_ready("iris-two") for _ in range(20)]
        said["again"] = [
            client.infer("iris-two", [tensor("x", ROWS, True)]).as_numpy("prediction").tolist() for _ in range(20)
        ]
        try:
            client.load_model("iris-two", config="{}")
        except InferenceServerException as error:
            said["refused"] = [error.status(), error.message()]
    print(json.dumps(said))


main(sys.argv[1])
