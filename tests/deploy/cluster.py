"""Holds the objects of one release against each other, as a cluster would find out piece by piece:
selectors and labels, ports and their names, mounts and what they mount, the configuration and where
its files lie; and against what every pod here is to be: unprivileged, read-only, of class Guaranteed.
"""
import posixpath
import re

import yaml

import kubernetes_types

# Resources of operators, whose schemas are not to be had offline: what their documentation asks for.
CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"):
        {"selector": dict, "endpoints": list},
    ("monitoring.coreos.com/v1", "PrometheusRule"):
        {"groups": list},
    ("cert-manager.io/v1", "Issuer"): {},
    ("cert-manager.io/v1", "Certificate"):
        {"secretName": str, "issuerRef": dict},
}
ENDPOINT_FIELDS = {"port", "path", "scheme", "interval"}
CERTIFICATE_FIELDS = {"isCA", "commonName", "secretName", "duration", "privateKey", "issuerRef", "usages",
                      "dnsNames"}
DURATION = re.compile(r"^(\d+)s$")


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def pods_of(objects):
    """(workload, metadata of its pods, their spec)"""
    for document in objects:
        if document["kind"] == "Pod":
            yield document, document["metadata"], document["spec"]
        elif document["kind"] in ("StatefulSet", "Job"):
            template = document["spec"]["template"]
            yield document, template["metadata"], template["spec"]


def of_kind(objects, kind):
    return [document for document in objects if document["kind"] == kind]


def selects(labels, wanted):
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def ports_of(spec):
    """{name: number} of all containers."""
    return {port.get("name"): port["containerPort"]
            for container in spec["containers"] for port in container.get("ports", [])}


def secrets_of(spec):
    """Names of the secrets that a pod mounts."""
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source:
                yield source["secret"]["name"]


def files_of(volume, objects):
    """Names of the files in a volume of a ConfigMap or secret; None: not known here."""
    if "configMap" in volume:
        for document in of_kind(objects, "ConfigMap"):
            if document["metadata"]["name"] == volume["configMap"]["name"]:
                return set(document["data"])
    elif "items" in volume.get("secret", {}):
        return {item["path"] for item in volume["secret"]["items"]}
    return None


def _check_custom(document):
    fields = CUSTOM.get((document.get("apiVersion"), document.get("kind")))
    if fields is None:
        return kubernetes_types.check(document)
    findings, where, spec = [], name_of(document), document["spec"]
    for field, kind in fields.items():
        if not isinstance(spec.get(field), kind):
            findings.append(f"{where}: spec.{field} is missing, or no {kind.__name__}")
    for endpoint in spec.get("endpoints", []):
        findings += [f"{where}: an endpoint has no field {field}" for field in set(endpoint) - ENDPOINT_FIELDS]
    if document["kind"] == "Certificate":
        findings += [f"{where}: a Certificate has no field {field}" for field in set(spec) - CERTIFICATE_FIELDS]
    for group in spec.get("groups", []) if document["kind"] == "PrometheusRule" else []:
        for rule in group["rules"]:
            if not {"alert", "record"} & set(rule) or "expr" not in rule:
                findings.append(f"{where}: a rule without expr, or without alert and record")
    return findings


def _check_services(objects):
    findings = []
    for service in of_kind(objects, "Service"):
        where, selector = name_of(service), service["spec"].get("selector")
        found = [spec for _, metadata, spec in pods_of(objects)
                 if selects(metadata.get("labels", {}), selector)]
        if len(found) != 1:
            findings.append(f"{where}: its selector fits the pods of {len(found)} workloads")
            continue
        ports = ports_of(found[0])
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in ports and target not in ports.values():
                findings.append(f"{where}: no container has the port {target}")
        # Kubernetes makes variables of Services; these would be read as syncnorm's own.
        if service["metadata"]["name"] == "syncnorm":
            findings.append(f"{where}: the name gives other pods SYNCNORM_PORT=tcp://...")
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            found = [service for service in of_kind(objects, "Service")
                     if selects(service["metadata"].get("labels", {}), monitor["spec"]["selector"]["matchLabels"])
                     and endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]]
            if len(found) != 1:
                findings.append(f"{name_of(monitor)}: finds the port {endpoint['port']} at {len(found)} Services")
    return findings


def _check_selectors(objects):
    findings = []
    for document in objects:
        if document["kind"] == "StatefulSet":
            spec = document["spec"]
            if not selects(spec["template"]["metadata"]["labels"], spec["selector"]["matchLabels"]):
                findings.append(f"{name_of(document)}: its selector does not fit its pods' labels")
            headless = [service for service in of_kind(objects, "Service")
                        if service["metadata"]["name"] == spec["serviceName"]
                        and service["spec"].get("clusterIP") == "None"]
            if not headless:
                findings.append(f"{name_of(document)}: no headless Service {spec['serviceName']}")
        elif document["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            field = "selector" if document["kind"] == "PodDisruptionBudget" else "podSelector"
            found = [spec for _, metadata, spec in pods_of(objects)
                     if selects(metadata.get("labels", {}), document["spec"][field]["matchLabels"])]
            if len(found) != 1:
                findings.append(f"{name_of(document)}: its selector fits the pods of {len(found)} workloads")
            elif document["kind"] == "NetworkPolicy":
                findings += _check_policy(document, found[0])
    return findings


def _check_policy(policy, spec):
    findings, open_ports = [], ports_of(spec)
    for rule in policy["spec"]["ingress"]:
        if not rule.get("from"):
            findings.append(f"{name_of(policy)}: a rule without from lets everybody in")
        for peer in rule.get("from", []):
            for kind, selector in peer.items():
                if not selector:
                    findings.append(f"{name_of(policy)}: an empty {kind} lets everybody in")
        if not rule.get("ports"):
            findings.append(f"{name_of(policy)}: a rule without ports opens all")
        for port in rule.get("ports", []):
            if port["port"] not in open_ports and port["port"] not in open_ports.values():
                findings.append(f"{name_of(policy)}: no container has the port {port['port']}")
    return findings


def _check_pod(workload, spec, objects, secrets):
    findings, where = [], name_of(workload)

    def expect(what, found, wanted):
        if found != wanted:
            findings.append(f"{where}: {what} is {found!r}, not {wanted!r}")

    expect("automountServiceAccountToken", spec.get("automountServiceAccountToken"), False)
    expect("enableServiceLinks", spec.get("enableServiceLinks"), False)
    context = spec.get("securityContext", {})
    expect("runAsNonRoot", context.get("runAsNonRoot"), True)
    expect("the seccomp profile", context.get("seccompProfile", {}).get("type"), "RuntimeDefault")
    if not context.get("runAsUser"):
        findings.append(f"{where}: no numeric user, or root")
    if "serviceAccountName" in spec and spec["serviceAccountName"] not in [
            account["metadata"]["name"] for account in of_kind(objects, "ServiceAccount")]:
        findings.append(f"{where}: no ServiceAccount {spec['serviceAccountName']}")

    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        if "configMap" in volume and files_of(volume, objects) is None:
            findings.append(f"{where}: no ConfigMap {volume['configMap']['name']}")
        mode = (volume.get("secret") or volume.get("projected") or {}).get("defaultMode", 0o440)
        expect(f"the mode of {volume['name']}", oct(mode), "0o440")
    for secret in set(secrets_of(spec)) - set(secrets):
        findings.append(f"{where}: mounts the secret {secret}, which nobody makes")
    mounted = set()
    for container in spec["containers"]:
        place = f"{container['name']}: "
        security = container.get("securityContext", {})
        expect(place + "allowPrivilegeEscalation", security.get("allowPrivilegeEscalation"), False)
        expect(place + "readOnlyRootFilesystem", security.get("readOnlyRootFilesystem"), True)
        expect(place + "capabilities", security.get("capabilities"), {"drop": ["ALL"]})
        resources = container.get("resources", {})
        expect(place + "requests", resources.get("requests"), resources.get("limits"))
        if set(resources.get("limits", {})) < {"cpu", "memory"}:
            findings.append(f"{where}: {place}no limits of cpu and memory")
        ports = ports_of({"containers": [container]})
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in ports and port not in ports.values():
                findings.append(f"{where}: {place}{probe} asks the port {port}, which it does not have")
        folders = []
        for mount in container.get("volumeMounts", []):
            folders.append(mount["mountPath"])
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                findings.append(f"{where}: {place}no volume {mount['name']}")
            if "subPath" in mount:
                findings.append(f"{where}: {place}subPath: a change of the volume would not be seen")
        for folder in folders:
            if any(other != folder and folder.startswith(other + "/") for other in folders) or folders.count(folder) > 1:
                findings.append(f"{where}: {place}{folder} is mounted twice, or within another mount")
    for name in set(volumes) - mounted:
        findings.append(f"{where}: the volume {name} is mounted nowhere")
    return findings


def configuration(objects):
    """The text of the coordinator's configuration file, by the ConfigMap's name."""
    return {document["metadata"]["name"]: document["data"]["coordinator.yaml"]
            for document in of_kind(objects, "ConfigMap") if "coordinator.yaml" in document["data"]}


def _check_configuration(workload, spec, objects):
    """The file that --config names: that it is mounted, and what it says of ports and files."""
    findings, where = [], name_of(workload)
    container = spec["containers"][0]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    files = {}  # path in the container -> volume
    for mount in container.get("volumeMounts", []):
        for file in files_of(volumes.get(mount["name"], {}), objects) or ():
            files[posixpath.join(mount["mountPath"], file)] = volumes[mount["name"]]
    for argument in container.get("args", []):
        if not argument.startswith("--config="):
            continue
        path = argument.split("=", 1)[1]
        if path not in files:
            return [f"{where}: {argument}, and no volume has that file"]
        config = yaml.safe_load(configuration(objects)[files[path]["configMap"]["name"]])
        wanted = [posixpath.join(config["tls_dir"], file) for file in ("tls.crt", "tls.key", "ca.crt")
                  ] if "tls_dir" in config else []
        wanted += [config["tokens"]] if "tokens" in config else []
        findings += [f"{where}: the configuration names {file}, and no volume has it"
                     for file in wanted if file not in files]
        for file in files:
            if file not in wanted and file != path:
                findings.append(f"{where}: {file} is mounted, and the configuration does not use it")
        if "tls_dir" not in config and config.get("insecure") is not True:
            findings.append(f"{where}: neither tls_dir nor insecure")
        ports = ports_of(spec)
        for key, port in (("listen", "grpc"), ("admin_listen", "admin")):
            if config[key].rpartition(":")[2] != str(ports[port]):
                findings.append(f"{where}: {key} is {config[key]}, and the port {port} {ports[port]}")
        drain = int(DURATION.match(config["drain_grace"]).group(1))
        if spec["terminationGracePeriodSeconds"] < drain + 10:
            findings.append(f"{where}: killed {spec['terminationGracePeriodSeconds']} s after SIGTERM, "
                            f"and draining takes {drain} s")
        for probe, page in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            asked = container[probe]["httpGet"]
            if (asked["path"], asked["port"]) != (page, "admin"):
                findings.append(f"{where}: {probe} asks {asked}, not {page} of the admin port")
    return findings


def check(objects, secrets):
    """What is wrong with a set of objects, as texts; secrets: the names of those that somebody makes."""
    findings = []
    for document in objects:
        findings += _check_custom(document)
    if findings:
        return findings  # the rest takes well-formed objects for granted
    names = [name_of(document) for document in objects]
    findings += [f"{name}: stands there twice" for name in sorted(set(names)) if names.count(name) > 1]
    findings += _check_services(objects) + _check_selectors(objects)
    for workload, _, spec in pods_of(objects):
        findings += _check_pod(workload, spec, objects, secrets)
        findings += _check_configuration(workload, spec, objects)
    return findings
