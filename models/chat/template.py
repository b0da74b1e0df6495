"""The chat template, rendered as Hugging Face's transformers renders it."""

import json
import pathlib

import jinja2.ext
import jinja2.sandbox

SOURCE = (pathlib.Path(__file__).resolve().parent / "template.jinja").read_text().rstrip("\n")


def compiled(source=SOURCE):
    # Jinja's own tojson sorts keys and escapes for HTML; transformers replaces it with plain JSON, and so does this.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    return environment.from_string(source)


def render(messages, tools=None, add_generation_prompt=False, template=compiled()):
    return template.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)
