// Predicts through openapi-fetch with the types that openapi-typescript generated, and prints the answers.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type PenguinsRecord = components["schemas"]["penguins.record"];
type PenguinsRow = components["schemas"]["penguins.row"];

async function main(baseUrl: string, records: PenguinsRecord[]): Promise<void> {
  const client = createClient<paths>({ baseUrl });
  const one = await client.POST("/models/penguins/predict", { body: records[0] });
  const many = await client.POST("/models/penguins/predict", { body: { instances: records } });
  const list = records.map((record) => Object.values(record) as PenguinsRow);
  const rows = await client.POST("/models/penguins/predict", { body: list });
  const wrong = [records[0], { ...records[1], year: 2008.5 }];
  const { error, response } = await client.POST("/models/penguins/predict", { body: wrong });
  const refused = [response.status, error?.detail, error?.errors?.[0].pointer];
  console.log(JSON.stringify({ one: one.data, many: many.data, rows: rows.data?.prediction, refused }));
}

main(process.argv[2], JSON.parse(process.argv[3]));
