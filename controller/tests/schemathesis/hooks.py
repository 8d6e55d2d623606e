"""What schemathesis must know to get past the door: what is there, how values of this API look, and
what every refusal has.

Loaded by `schemathesis.toml` of this folder; run by controller/tests/schemathesis.rs.
"""

import schemathesis
from hypothesis import strategies

# What is there, by controller/tests/support: half of all requests are about it, so that some find something.
NAMES = ["www", "www-v4", "ams", "public-v4", "fresh", "fuzzed"]
NAMESPACE = "web-prod"

FORMATS = {
    "amount-field": r"spec\.[a-z]{1,8}",
    "as-path-pattern": r"[0-9]{1,5}",
    "cidr": r"198\.51\.100\.0/(2[4-9]|3[0-2])",
    "community": r"[0-9]{1,4}:[0-9]{1,4}",
    "community-pattern": r"[0-9]{1,4}:(\*|[0-9]{1,4})",
    "dns-label": r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?",
    "dns-subdomain": r"[a-z]{1,8}(\.[a-z0-9]{1,8}){0,2}",
    "duration": r"[1-9][0-9]{0,3}(ms|s|m|h)",
    "host-address": r"198\.51\.100\.[1-9]",
    "ip": r"198\.51\.100\.[1-9]|2001:db8::[1-9]",
    "ip-prefix": r"198\.51\.100\.[1-9]/32",
    "ipv4": r"198\.51\.100\.[1-9]",
    "ipv6": r"2001:db8::[1-9]",
    "next-hop": r"198\.51\.100\.[1-9]",
    "permission": r"network\.isocast\.dev/(drains|nodes)\.(get|list)",
    "resource-type": r"network\.isocast\.dev/(drains|addressclaims)",
}
for name, pattern in FORMATS.items():
    schemathesis.openapi.format(name, strategies.from_regex(pattern, fullmatch=True))


@schemathesis.hook
def before_generate_path_parameters(context, strategy):
    def go(drawn):
        parameters, name, is_there = drawn
        # What breaks a rule on purpose comes wrapped up, with what it breaks.
        values = getattr(parameters, "value", parameters)
        if is_there and isinstance(values, dict):
            known = {"namespace": NAMESPACE, "name": name}
            values.update({key: known[key] for key in known if key in values})
        return parameters

    names = strategies.sampled_from(NAMES)
    return strategies.tuples(strategy, names, strategies.booleans()).map(go)


@schemathesis.hook
def map_case(context, case):
    """An object says what it is and has the name of its path, where it says anything well-formed."""
    definition = context.operation.definition.raw
    gvk, body = definition.get("x-kubernetes-group-version-kind"), case.body
    if not gvk or not isinstance(body, dict) or case.method not in ("POST", "PUT"):
        return case
    if isinstance(body.get("apiVersion"), str) and isinstance(body.get("kind"), str):
        version = [gvk["group"], gvk["version"]] if gvk["group"] else [gvk["version"]]
        body["apiVersion"], body["kind"] = "/".join(version), gvk["kind"]
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        for set_by_server in ("namespace", "uid", "resourceVersion"):
            if isinstance(metadata.get(set_by_server), str):
                del metadata[set_by_server]
        name = metadata.get("name")
        if case.method == "PUT":
            metadata["name"] = case.path_parameters.get("name", name)
        elif isinstance(name, str):
            metadata["name"] = NAMES[len(name) % len(NAMES)]
    return case


@schemathesis.check
def a_refusal_is_a_status(context, response, case):
    if response.status_code < 400:
        return
    said = response.json()
    assert said["kind"] == "Status" and said["status"] == "Failure", said
    assert said["code"] == response.status_code and said["reason"] and said["message"], said
