"""Strict schemas of the manifests: a field that is not named here is a mistake, or has to be added here.

They are written by hand for the fields of these manifests, and do not replace the schemas of the platforms.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi)?$"}


def only(required: str = "", /, **fields: Any) -> Schema:
    """Return the schema of an object that has only these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def kind(api: str, name: str, **fields: Any) -> Schema:
    """Return the schema of a resource of Kubernetes."""
    metadata = only("name", name=TEXT, labels=LABELS, annotations=LABELS)
    meta = {"apiVersion": {"const": api}, "kind": {"const": name}, "metadata": metadata}
    return only(" ".join([*meta, *fields]), **meta, **fields)


SELECTOR = only("matchLabels", matchLabels=LABELS)
NAME = TEXT | {"pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
PROBE = only(
    "httpGet",
    httpGet=only("path port", path=TEXT, port={"type": ["string", "integer"]}),
    periodSeconds=COUNT,
    timeoutSeconds=COUNT,
    failureThreshold=COUNT,
)
VARIABLE = {
    "oneOf": [
        only("name value", name=TEXT, value=TEXT),
        only(
            "name valueFrom",
            name=TEXT,
            valueFrom=only("secretKeyRef", secretKeyRef=only("name key", name=NAME, key=TEXT, optional=FLAG)),
        ),
    ]
}
RESOURCES = only(
    "requests limits",
    requests=only("cpu memory", cpu=QUANTITY, memory=QUANTITY),
    limits=only("memory", cpu=QUANTITY, memory=QUANTITY),
)
CONTAINER = only(
    "name image ports env readinessProbe livenessProbe resources securityContext volumeMounts",
    name=NAME,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    ports=listed(only("containerPort", name=NAME, containerPort=COUNT, protocol=one_of("TCP"))),
    env=listed(VARIABLE),
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    lifecycle=only("preStop", preStop=only("exec", exec=only("command", command=listed(TEXT)))),
    resources=RESOURCES,
    securityContext=only(
        "allowPrivilegeEscalation readOnlyRootFilesystem capabilities",
        allowPrivilegeEscalation={"const": False},
        readOnlyRootFilesystem={"const": True},
        capabilities=only("drop", drop={"const": ["ALL"]}),
    ),
    volumeMounts=listed(only("name mountPath", name=NAME, mountPath=TEXT, readOnly=FLAG)),
)
USER = only(
    "runAsNonRoot runAsUser seccompProfile",
    runAsNonRoot={"const": True},
    runAsUser={"type": "integer", "minimum": 1},
    runAsGroup={"type": "integer", "minimum": 1},
    fsGroup={"type": "integer", "minimum": 1},
    seccompProfile=only("type", type={"const": "RuntimeDefault"}),
)
CLAIM = only(
    "name persistentVolumeClaim", name=NAME, persistentVolumeClaim=only("claimName", claimName=NAME, readOnly=FLAG)
)
VOLUMES = listed({"oneOf": [only("name emptyDir", name=NAME, emptyDir=only("", sizeLimit=QUANTITY)), CLAIM]})
POD = {
    "automountServiceAccountToken": {"const": False},
    "containers": listed(CONTAINER),
    "securityContext": USER,
    "volumes": VOLUMES,
}
SPREAD = only(
    "maxSkew topologyKey whenUnsatisfiable labelSelector",
    maxSkew=COUNT,
    topologyKey=TEXT,
    whenUnsatisfiable=one_of("ScheduleAnyway", "DoNotSchedule"),
    labelSelector=SELECTOR,
)
POD_SPEC = only(
    "containers securityContext terminationGracePeriodSeconds volumes",
    enableServiceLinks=FLAG,
    terminationGracePeriodSeconds=COUNT,
    topologySpreadConstraints=listed(SPREAD),
    **POD,
)
TEMPLATE = only("metadata spec", metadata=only("labels", labels=LABELS, annotations=LABELS), spec=POD_SPEC)
ROLLING = only("rollingUpdate", rollingUpdate=only("", maxSurge=COUNT, maxUnavailable=COUNT))
POLICIES = listed(only("type value periodSeconds", type=one_of("Percent", "Pods"), value=COUNT, periodSeconds=COUNT))
SCALING = only("", stabilizationWindowSeconds=COUNT, policies=POLICIES)
METRIC = {
    "oneOf": [
        only(
            "type pods",
            type={"const": "Pods"},
            pods=only(
                "metric target",
                metric=only("name", name=TEXT),
                target=only("type averageValue", type={"const": "AverageValue"}, averageValue=QUANTITY),
            ),
        ),
        only(
            "type resource",
            type={"const": "Resource"},
            resource=only(
                "name target",
                name=one_of("cpu", "memory"),
                target=only("type averageUtilization", type={"const": "Utilization"}, averageUtilization=COUNT),
            ),
        ),
    ]
}
PORTS = listed(only("protocol port", protocol=one_of("TCP", "UDP"), port={"type": ["string", "integer"]}))

KUBERNETES: dict[str, Schema] = {
    "deployment.yaml": kind(
        "apps/v1",
        "Deployment",
        spec=only("selector template", replicas=COUNT, selector=SELECTOR, strategy=ROLLING, template=TEMPLATE),
    ),
    "service.yaml": kind(
        "v1",
        "Service",
        spec=only(
            "selector ports",
            selector=LABELS,
            ports=listed(only("port targetPort", name=NAME, port=COUNT, targetPort={"type": ["string", "integer"]})),
        ),
    ),
    "hpa.yaml": kind(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        spec=only(
            "scaleTargetRef minReplicas maxReplicas metrics",
            scaleTargetRef=only("apiVersion kind name", apiVersion=TEXT, kind=TEXT, name=NAME),
            minReplicas=COUNT,
            maxReplicas=COUNT,
            metrics=listed(METRIC),
            behavior=only("", scaleUp=SCALING, scaleDown=SCALING),
        ),
    ),
    "pdb.yaml": kind(
        "policy/v1", "PodDisruptionBudget", spec=only("selector", maxUnavailable=COUNT, selector=SELECTOR)
    ),
    "networkpolicy.yaml": kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec=only(
            "podSelector policyTypes",
            podSelector=SELECTOR,
            policyTypes=listed(one_of("Ingress", "Egress")),
            ingress=listed(only("ports", ports=PORTS)),
            egress=listed(only("ports", ports=PORTS)),
        ),
    ),
}
WORKER = {name: field for name, field in CONTAINER["properties"].items() if not name.endswith("Probe")}
WORKER = WORKER | {"command": listed(TEXT)}
KUBERNETES_JOBS: dict[str, Schema] = {
    "worker.yaml": kind(
        "apps/v1",
        "Deployment",
        spec=only(
            "selector template",
            replicas=COUNT,
            selector=SELECTOR,
            template=only(
                "metadata spec",
                metadata=only("labels", labels=LABELS),
                spec=only(
                    "containers securityContext terminationGracePeriodSeconds volumes",
                    enableServiceLinks=FLAG,
                    terminationGracePeriodSeconds=COUNT,
                    **POD | {"containers": listed(only("name image command env resources securityContext", **WORKER))},
                ),
            ),
        ),
    ),
    "server.yaml": kind(
        "apps/v1",
        "Deployment",
        spec=only(
            "template",
            template=only(
                "spec",
                spec=only(
                    "containers volumes",
                    containers=listed(
                        only("name", name=NAME, env=listed(VARIABLE), volumeMounts=WORKER["volumeMounts"])
                    ),
                    volumes=VOLUMES,
                ),
            ),
        ),
    ),
    "volume.yaml": kind(
        "v1",
        "PersistentVolumeClaim",
        spec=only(
            "accessModes resources",
            accessModes=listed(one_of("ReadWriteMany")),
            resources=only("requests", requests=only("storage", storage=QUANTITY)),
            storageClassName=TEXT,
        ),
    ),
    "networkpolicy.yaml": KUBERNETES["networkpolicy.yaml"],
}
INFERENCE_SERVICE = kind(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    spec=only(
        "predictor",
        predictor=only(
            "containers",
            minReplicas=COUNT,
            maxReplicas=COUNT,
            scaleMetric=one_of("concurrency", "rps", "cpu", "memory"),
            scaleTarget=COUNT,
            timeout=COUNT,
            **POD,
        ),
    ),
)
KUSTOMIZATION = only(
    "apiVersion kind resources",
    apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
    kind={"const": "Kustomization"},
    resources=listed(TEXT),
    labels=listed(only("pairs", pairs=LABELS, includeSelectors=FLAG)),
    images=listed(only("name", name=TEXT, newName=TEXT, newTag=TEXT)),
    patches=listed(only("path", path=TEXT)),
)
ADAPTER = only(
    "rules",
    rules=only(
        "custom",
        custom=listed(
            only(
                "seriesQuery resources name metricsQuery",
                seriesQuery=TEXT,
                resources={"type": "object"},
                name=only("matches", matches=TEXT, **{"as": TEXT}),
                metricsQuery=TEXT,
            )
        ),
    ),
)
COMPOSE = only(
    "services",
    name=NAME,
    services={
        "type": "object",
        "additionalProperties": only(
            "image",
            build=only("context", context=TEXT, args=LABELS),
            cap_drop={"const": ["ALL"]},
            command=listed({"type": "string"}),
            depends_on={"anyOf": [listed(NAME), {"type": "object"}]},
            environment=LABELS,
            healthcheck={
                "oneOf": [
                    only("test", test=listed(TEXT), interval=TEXT, timeout=TEXT, retries=COUNT),
                    only("disable", disable={"const": True}),
                ]
            },
            image=TEXT,
            ports=listed(TEXT | {"pattern": r"^127\.0\.0\.1:[0-9]+:[0-9]+$"}),
            read_only=FLAG,
            restart=one_of("unless-stopped"),
            security_opt=listed(TEXT),
            stop_grace_period=TEXT,
            tmpfs=listed(TEXT),
            volumes=listed(TEXT),
        ),
    },
    volumes={"type": "object"},
)
HEROKU = only(
    "name env",
    **{"$schema": TEXT},
    name=TEXT,
    description=TEXT,
    keywords=listed(TEXT),
    stack=one_of("heroku-22", "heroku-24"),
    buildpacks=listed(only("url", url=TEXT)),
    formation={"type": "object", "additionalProperties": only("quantity", quantity=COUNT, size=TEXT)},
    env={
        "type": "object",
        "additionalProperties": only("", description=TEXT, value=TEXT, required=FLAG, generator=one_of("secret")),
    },
)
RENDER = only(
    "services",
    services=listed(
        only(
            "type name runtime healthCheckPath envVars",
            type=one_of("web"),
            name=NAME,
            runtime=one_of("docker"),
            dockerfilePath=TEXT,
            plan=TEXT,
            numInstances=COUNT,
            healthCheckPath=TEXT,
            maxShutdownDelaySeconds={"type": "integer", "minimum": 1, "maximum": 300},
            envVars=listed({"oneOf": [only("key value", key=TEXT, value=TEXT), only("key sync", key=TEXT, sync=FLAG)]}),
        )
    ),
)
FLY = only(
    "app http_service",
    app=NAME,
    primary_region=TEXT,
    kill_signal={"const": "SIGTERM"},
    kill_timeout=TEXT,
    build=only("dockerfile", dockerfile=TEXT),
    env=LABELS,
    http_service=only(
        "internal_port checks",
        internal_port=COUNT,
        force_https=FLAG,
        auto_stop_machines=one_of("off", "stop", "suspend"),
        auto_start_machines=FLAG,
        min_machines_running=COUNT,
        concurrency=only("type", type=one_of("requests", "connections"), soft_limit=COUNT, hard_limit=COUNT),
        checks=listed(only("path", method=one_of("GET"), path=TEXT, interval=TEXT, timeout=TEXT, grace_period=TEXT)),
    ),
    vm=listed(only("size", size=TEXT, memory=TEXT)),
)
