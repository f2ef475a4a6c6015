"""Holds a manifest against Kubernetes' own types, strictly: unknown fields, wrong types, what is
required and missing, and values that are not among those allowed.

The types are the models of Debian's python3-kubernetes, which are generated from the API's OpenAPI
description (of Kubernetes 1.22 in Debian 12).  It names no enumerations: those of fields used here
are written down below, after the API reference.
"""
import functools
import re

import kubernetes.client
from kubernetes.client import models
import yaml

ENUMERATIONS = {
    ("V1StatefulSetSpec", "podManagementPolicy"): {"OrderedReady", "Parallel"},
    ("V1StatefulSetUpdateStrategy", "type"): {"RollingUpdate", "OnDelete"},
    ("V1Container", "imagePullPolicy"): {"Always", "IfNotPresent", "Never"},
    ("V1ContainerPort", "protocol"): {"TCP", "UDP", "SCTP"},
    ("V1ServicePort", "protocol"): {"TCP", "UDP", "SCTP"},
    ("V1NetworkPolicyPort", "protocol"): {"TCP", "UDP", "SCTP"},
    ("V1NetworkPolicySpec", "policyTypes"): {"Ingress", "Egress"},
    ("V1ServiceSpec", "type"): {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
    ("V1PodSpec", "restartPolicy"): {"Always", "OnFailure", "Never"},
    ("V1PodSpec", "dnsPolicy"): {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
    ("V1SeccompProfile", "type"): {"RuntimeDefault", "Unconfined", "Localhost"},
    ("V1HTTPGetAction", "scheme"): {"HTTP", "HTTPS"},
    ("V1JobSpec", "completionMode"): {"NonIndexed", "Indexed"},
    ("V1Toleration", "operator"): {"Exists", "Equal"},
    ("V1Toleration", "effect"): {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    ("V1NodeSelectorRequirement", "operator"): {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"},
    ("V1LabelSelectorRequirement", "operator"): {"In", "NotIn", "Exists", "DoesNotExist"},
}
KINDS = {
    ("v1", "ConfigMap"): "V1ConfigMap", ("v1", "Pod"): "V1Pod", ("v1", "Service"): "V1Service",
    ("v1", "ServiceAccount"): "V1ServiceAccount", ("v1", "Secret"): "V1Secret",
    ("apps/v1", "StatefulSet"): "V1StatefulSet", ("batch/v1", "Job"): "V1Job",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}
# Newer than the models, in every cluster that the chart names: (model, field) -> type.
NEWER = {}
SCALARS = {"str": str, "int": int, "bool": bool, "float": float}
# A label's value, and what follows the slash of a label's or an annotation's name.
LABEL = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
# Of most objects, as of DNS.
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
# IANA's service names: what ports are called by.
PORT_NAME = re.compile(r"^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$")


class _Loader(yaml.SafeLoader):
    """As Kubernetes reads: a key that stands twice is an error, not the last one's value."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_all(text):
    """The documents of a manifest."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]


@functools.lru_cache(maxsize=None)
def _required(model):
    """The fields without which the model refuses to be: its setters say so for None."""
    blank = object.__new__(model)
    blank.local_vars_configuration = kubernetes.client.Configuration()
    blank.local_vars_configuration.client_side_validation = True
    found = set()
    for attribute, field in model.attribute_map.items():
        try:
            setattr(blank, attribute, None)
        except ValueError:
            found.add(field)
    return frozenset(found)


def _check(kind, value, path, findings):
    if kind == "object":  # a number or a name (ports, percentages)
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            findings.append(f"{path}: {value!r} is neither a number nor a string")
        elif path.endswith((".port", ".targetPort")) and isinstance(value, str) and not PORT_NAME.match(value):
            findings.append(f"{path}: {value!r} cannot be a port's name")
    elif kind == "datetime":
        if not isinstance(value, str):
            findings.append(f"{path}: {value!r} is not a time")
    elif kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (kind != "bool" and isinstance(value, bool)):
            findings.append(f"{path}: {value!r} is not of type {kind}")
    elif kind.startswith("list["):
        if not isinstance(value, list):
            findings.append(f"{path}: not a list")
            return
        for index, item in enumerate(value):
            _check(kind[5:-1], item, f"{path}[{index}]", findings)
    elif kind.startswith("dict("):
        inner = re.match(r"dict\(str, (.*)\)$", kind).group(1)
        if not isinstance(value, dict):
            findings.append(f"{path}: not a map")
            return
        for key, item in value.items():
            if not isinstance(key, str):
                findings.append(f"{path}: the key {key!r} is not a string")
            _check(inner, item, f"{path}.{key}", findings)
            if path.endswith(("labels", "matchLabels")) and not LABEL.match(str(item)):
                findings.append(f"{path}.{key}: {item!r} cannot be a label's value")
    else:
        _check_model(getattr(models, kind), value, path, findings)


def _check_model(model, value, path, findings):
    if not isinstance(value, dict):
        findings.append(f"{path}: not a map")
        return
    fields = {field: model.openapi_types[attribute] for attribute, field in model.attribute_map.items()}
    fields.update({field: kind for (name, field), kind in NEWER.items() if name == model.__name__})
    for missing in sorted(_required(model) - set(value)):
        findings.append(f"{path}.{missing}: required, and missing")
    for field, item in value.items():
        where = f"{path}.{field}"
        if field not in fields:
            findings.append(f"{where}: {model.__name__} has no such field")
            continue
        if item is None:
            findings.append(f"{where}: null")
            continue
        _check(fields[field], item, where, findings)
        allowed = ENUMERATIONS.get((model.__name__, field))
        for one in item if isinstance(item, list) else [item]:
            if allowed and one not in allowed:
                findings.append(f"{where}: {one!r} is none of {', '.join(sorted(allowed))}")
        if model is models.V1ObjectMeta and field == "name" and not NAME.match(str(item)):
            findings.append(f"{where}: {item!r} cannot be an object's name")
        if model is models.V1ContainerPort and field == "name" and not PORT_NAME.match(str(item)):
            findings.append(f"{where}: {item!r} cannot be a port's name")


def check(document):
    """What is wrong with an object, as texts that name the field; empty: nothing."""
    if not isinstance(document, dict):
        return [f"not an object: {document!r}"]
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind not in KINDS:
        return [f"apiVersion {kind[0]!r}, kind {kind[1]!r}: no type that is known here"]
    findings = []
    where = f"{kind[1]} {(document.get('metadata') or {}).get('name')}"
    _check_model(getattr(models, KINDS[kind]), document, where, findings)
    if not (document.get("metadata") or {}).get("name"):
        findings.append(f"{where}: no name")
    return findings
