import Foundation
import JSON

/// The JSON Schemas of `deploy/schemas`, applied by Python's `jsonschema`.
package enum SchemaCheck {
    /// Tells for each text whether a schema takes it.
    ///
    /// The texts are JSON; the schemas find each other by their file names.
    package static func verdicts(of texts: [String], by schema: String) async throws -> [Bool] {
        let script = """
            import json, pathlib, sys
            import jsonschema
            folder = pathlib.Path(sys.argv[1])
            schemas = {path.name: json.loads(path.read_text()) for path in folder.glob("*.schema.json")}
            schema = schemas[sys.argv[2]]
            jsonschema.Draft202012Validator.check_schema(schema)
            store = {document["$id"]: document for document in schemas.values()}
            resolver = jsonschema.RefResolver.from_schema(schema, store=store)
            validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
            for text in json.load(sys.stdin):
                print(int(validator.is_valid(json.loads(text))))
            """
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("deploy/schemas")
        let input = JSONValue.array(texts.map { .string($0) }).encoded()
        let outcome = try await Program.run(
            ["-c", script, folder.path, schema],
            stdin: String(decoding: input, as: UTF8.self),
            executable: "/usr/bin/python3"
        )
        guard outcome.status == 0 else { throw DeadlinePassed(description: "jsonschema: \(outcome.stderr)") }
        return outcome.stdout.split(separator: "\n").map { $0 == "1" }
    }
}
