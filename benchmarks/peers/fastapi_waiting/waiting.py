"""An `async def` view that asks another service before it predicts, as the documentation of httpx writes it."""

import os
from contextlib import asynccontextmanager

import httpx
import joblib
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load("model.joblib")
limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)


@asynccontextmanager
async def lifespan(app):
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


class Customer(BaseModel):
    customer_id: int
    feature2: float


@app.post("/predict")
async def predict(customer: Customer):
    answer = await app.state.client.get(f"{os.environ['UPSTREAM']}/customers/{customer.customer_id}")
    features = [[answer.json()["feature1"], customer.feature2]]
    return {"prediction": model.predict(features).tolist()}
