// Predicts with the client that openapi-generator's `typescript-axios` generated, and prints the answers.
import { isAxiosError } from "axios";
import { Configuration, PenguinsApi, PenguinsInstance, PenguinsRecord, Problem } from "./typescript-axios";

async function main(url: string, records: PenguinsRecord[]): Promise<void> {
  const api = new PenguinsApi(new Configuration({ basePath: url }));
  const one = await api.predictPenguins(records[0]);
  const many = await api.predictPenguins({ instances: records });
  // The generator's type of an instance is the record's alone.
  const list = records.map((record) => Object.values(record)) as unknown as PenguinsInstance[];
  const rows = await api.predictPenguins(list);
  let refused: unknown;
  try {
    await api.predictPenguins([records[0], { ...records[1], year: 2008.5 }]);
  } catch (error) {
    if (!isAxiosError<Problem>(error) || !error.response) throw error;
    const problem = error.response.data;
    refused = [error.response.status, problem.detail, problem.errors?.[0].pointer];
  }
  console.log(JSON.stringify({ one: one.data, many: many.data, rows: rows.data.prediction, refused }));
}

main(process.argv[2], JSON.parse(process.argv[3]));
