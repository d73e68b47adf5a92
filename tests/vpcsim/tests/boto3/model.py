"""Checks against botocore's model of EC2: every element that is answered and every parameter that exists is known."""

import urllib.error
import urllib.request
from urllib.parse import urlencode
from xml.etree import ElementTree

XMLNS = "{http://ec2.amazonaws.com/doc/2016-11-15/}"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIAMODEL/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=00"
)


def watch(client, complaints):
    """From now on each answer's elements are looked up in the model; unknown ones are complaints."""

    def after_call(http_response, model, **_):
        if http_response.status_code != 200:
            return
        root = ElementTree.fromstring(http_response.content)
        if root.tag != f"{XMLNS}{model.name}Response":
            complaints.append(f"{model.name}: root {root.tag}")
        elements = [e for e in root if e.tag not in (f"{XMLNS}requestId", f"{XMLNS}return")]
        compare(model.name, elements, model.output_shape, complaints)

    client.meta.events.register("after-call.ec2", after_call)


def compare(path, elements, shape, complaints):
    members = {m.serialization.get("name", name): m for name, m in shape.members.items()} if shape else {}
    for element in elements:
        name = element.tag.removeprefix(XMLNS)
        if name not in members:
            complaints.append(f"{path}: {name} is not in EC2's model")
            continue
        inside(f"{path}.{name}", element, members[name], complaints)


def inside(path, element, shape, complaints):
    if shape.type_name == "structure":
        compare(path, list(element), shape, complaints)
    elif shape.type_name == "list":
        for item in element:
            wanted = shape.member.serialization.get("name", "member")
            if item.tag != XMLNS + wanted:
                complaints.append(f"{path}: {item.tag} instead of {wanted}")
            inside(path, item, shape.member, complaints)
    elif len(element):
        complaints.append(f"{path}: has elements but is a {shape.type_name}")


def parameters(shape, prefix=""):
    """The names, on the wire, of every parameter in the shape; lists with one member."""
    for name, member in shape.members.items():
        wire = member.serialization.get("queryName") or capitalised(member.serialization.get("name", name))
        yield from leaves(member, f"{prefix}{wire}")


def leaves(shape, path):
    if shape.type_name == "structure":
        yield from parameters(shape, f"{path}.")
    elif shape.type_name == "list":
        yield from leaves(shape.member, f"{path}.1")
    else:
        yield path


def capitalised(name):
    return name[0].upper() + name[1:]


def unknown_parameters(endpoint, model):
    """Parameters of the action that the server takes for unknown."""
    return [name for name in parameters(model.input_shape) if code(endpoint, model.name, name) == "UnknownParameter"]


def code(endpoint, action, parameter):
    body = urlencode({"Action": action, "Version": "2016-11-15", parameter: "?"}).encode()
    request = urllib.request.Request(endpoint, data=body, headers={"Authorization": AUTHORIZATION})
    try:
        with urllib.request.urlopen(request) as answer:
            return f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return ElementTree.fromstring(error.read()).findtext("Errors/Error/Code")
