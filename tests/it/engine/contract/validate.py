"""Validates values against the protocol's schema: one {"schema": ..., "value": ..., "what": ...} a line on stdin, one complaint a line.

What comes out of the daemon is open in the schema, since clients ignore what they don't know. Here a field that no type has is a
complaint as well: it would stand nowhere in the documentation.
"""

import json
import sys

from jsonschema import Draft202012Validator


def closed(node):
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(inner) for key, inner in node.items()}
    if "properties" in node and not {"additionalProperties", "unevaluatedProperties"} & set(node):
        node["additionalProperties"] = False
    return node


with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
Draft202012Validator.check_schema(document)
validators = {}
for line in sys.stdin:
    row = json.loads(line)
    key = json.dumps(row["schema"])
    if key not in validators:
        schema = dict(row["schema"])
        schema.setdefault("$defs", document["$defs"])
        Draft202012Validator.check_schema(schema)
        validators[key] = Draft202012Validator(closed(schema))
    for error in validators[key].iter_errors(row["value"]):
        deepest = error
        while deepest.context:
            deepest = max(deepest.context, key=lambda inner: len(inner.absolute_path))
        place = "/".join(map(str, deepest.absolute_path))
        print("%s: %s: %s" % (row["what"], place, deepest.message[:300]))
