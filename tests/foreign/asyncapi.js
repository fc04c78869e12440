// Prints what the official parser finds in each file given: its messages by channel, its operations, its complaints.
import { readFileSync } from "node:fs";
import { AvroSchemaParser } from "@asyncapi/avro-schema-parser";
import { Parser } from "@asyncapi/parser";

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());

const found = {};
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  found[file] = {
    complaints: diagnostics.map(({ code, severity, message, path }) => ({ code, severity, message, path: path.join(".") })),
    version: document?.version(),
    operations: document?.operations().all().map((operation) => operation.id()),
    messages: document?.messages().all().map((message) => message.name()),
  };
}
console.log(JSON.stringify(found));
