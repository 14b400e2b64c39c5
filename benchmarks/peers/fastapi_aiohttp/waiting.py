"""An `async def` view that asks another service before it predicts, as the documentation of aiohttp writes it."""

import os
from contextlib import asynccontextmanager

import aiohttp
import joblib
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load("model.joblib")


@asynccontextmanager
async def lifespan(app):
    connector = aiohttp.TCPConnector(limit=1000)
    async with aiohttp.ClientSession(connector=connector) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


class Customer(BaseModel):
    customer_id: int
    feature2: float


@app.post("/predict")
async def predict(customer: Customer):
    async with app.state.session.get(f"{os.environ['UPSTREAM']}/customers/{customer.customer_id}") as answer:
        found = await answer.json()
    features = [[found["feature1"], customer.feature2]]
    return {"prediction": model.predict(features).tolist()}
