import os

import joblib
import litserve as ls


class Forest(ls.LitAPI):
    def setup(self, device):
        self.model = joblib.load("forest.joblib")

    def decode_request(self, request):
        return [[request[f"feature{n}"] for n in range(1, 31)]]

    def predict(self, features):
        return self.model.predict(features)

    def encode_response(self, prediction):
        return {"prediction": prediction.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Forest(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
