"""The Kubernetes client of Python against the API: what libraries and controllers do with it.

Run by controller/tests/python.rs, with the administrator's kubeconfig and a project "web-prod" there.
"""

import base64
import datetime
import sys
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = "web-prod"
GROUP = "network.isocast.dev"
VERSION = "v1alpha1"


def refused(code, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ApiException as refusal:
        assert refusal.status == code, refusal
        return refusal
    raise AssertionError(f"not refused with {code}")


def gone(read, *arguments, patience=10):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            read(*arguments)
        except ApiException as refusal:
            assert refusal.status == 404, refusal
            return
        time.sleep(0.02)
    raise AssertionError("it is still there")


def config_maps(core):
    body = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="settings", labels={"app": "web"}), data={"a": "1"}
    )
    made = core.create_namespaced_config_map(NAMESPACE, body, field_validation="Strict")
    refused(409, core.create_namespaced_config_map, NAMESPACE, body)
    patched = core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}, patched.data
    # Replaced from a state that is no longer the newest.
    made.data = {"a": "old"}
    refused(409, core.replace_namespaced_config_map, "settings", NAMESPACE, made)
    patched.data = {"c": "3"}
    assert core.replace_namespaced_config_map("settings", NAMESPACE, patched).data == {"c": "3"}
    found = core.list_namespaced_config_map(NAMESPACE, label_selector="app in (web),!gone")
    assert [it.metadata.name for it in found.items] == ["settings"]
    core.delete_namespaced_config_map(
        "settings",
        NAMESPACE,
        body=client.V1DeleteOptions(
            propagation_policy="Foreground",
            preconditions=client.V1Preconditions(uid=made.metadata.uid),
        ),
    )
    # It stays until nothing is left that it owns, as anywhere.
    gone(core.read_namespaced_config_map, "settings", NAMESPACE)


def secrets(core):
    body = client.V1Secret(
        metadata=client.V1ObjectMeta(generate_name="token-"), string_data={"token": "s3cret"}
    )
    made = core.create_namespaced_secret(NAMESPACE, body)
    read = core.read_namespaced_secret(made.metadata.name, NAMESPACE)
    assert base64.b64decode(read.data["token"]) == b"s3cret"
    assert read.type == "Opaque" and read.string_data is None


def events(core):
    now = datetime.datetime.now(datetime.timezone.utc)
    body = client.EventsV1Event(
        metadata=client.V1ObjectMeta(name="happened"),
        event_time=now,
        regarding=client.V1ObjectReference(kind="BackendPool", name="www", namespace=NAMESPACE),
        reason="Tested",
        note="a test tells",
        action="Test",
        type="Normal",
        reporting_controller="isocast.dev/test",
        reporting_instance="one",
    )
    client.EventsV1Api().create_namespaced_event(NAMESPACE, body)
    seen = core.list_namespaced_event(
        NAMESPACE, field_selector="involvedObject.name=www,involvedObject.kind=BackendPool"
    )
    assert [it.message for it in seen.items] == ["a test tells"]


def leases():
    api = client.CoordinationV1Api()
    now = datetime.datetime.now(datetime.timezone.utc)

    def lease(holder):
        spec = client.V1LeaseSpec(
            holder_identity=holder, lease_duration_seconds=15, acquire_time=now, renew_time=now
        )
        return client.V1Lease(metadata=client.V1ObjectMeta(name="leader"), spec=spec)

    api.create_namespaced_lease(NAMESPACE, lease("first"))
    seen = api.read_namespaced_lease("leader", NAMESPACE)
    # Everybody who saw it expire wants it; it goes to one of them.
    won = []

    def take(holder):
        mine = lease(holder)
        mine.metadata.resource_version = seen.metadata.resource_version
        try:
            api.replace_namespaced_lease("leader", NAMESPACE, mine)
            won.append(holder)
        except ApiException as refusal:
            assert refusal.status == 409, refusal

    threads = [threading.Thread(target=take, args=(f"holder-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holder = api.read_namespaced_lease("leader", NAMESPACE).spec.holder_identity
    assert won == [holder], (won, holder)


def pages(core):
    for number in range(7):
        name = f"page-{number}"
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"of": "pages"}))
        core.create_namespaced_config_map(NAMESPACE, body)
    names, token, revisions = [], None, set()
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="of=pages", limit=3, _continue=token
        )
        names += [it.metadata.name for it in page.items]
        revisions.add(page.metadata.resource_version)
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(7)], names
    assert len(revisions) == 1, "one state, page by page"
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=pages")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="of=pages")
    assert not left.items


class Informer:
    """Knows what there is, and goes on where it was when it is started again."""

    def __init__(self, core):
        self.core = core
        self.known = {}
        self.revision = None
        self.lists = 0

    def run(self, until):
        if self.revision is None:
            self.lists += 1
            listing = self.core.list_namespaced_config_map(NAMESPACE, label_selector="of=informer")
            self.known = {it.metadata.name: it.data for it in listing.items}
            self.revision = listing.metadata.resource_version
        stream = watch.Watch()
        events = stream.stream(
            self.core.list_namespaced_config_map,
            NAMESPACE,
            label_selector="of=informer",
            resource_version=self.revision,
            allow_watch_bookmarks=True,
            timeout_seconds=30,
        )
        for event in events:
            it = event["object"]
            # A bookmark comes as it is, without the fields of a whole object.
            metadata = it["metadata"] if isinstance(it, dict) else it.metadata
            revision = metadata["resourceVersion"] if isinstance(metadata, dict) else metadata.resource_version
            self.revision = revision
            if event["type"] in ("ADDED", "MODIFIED"):
                self.known[it.metadata.name] = it.data
            elif event["type"] == "DELETED":
                self.known.pop(it.metadata.name, None)
            if until(self.known):
                stream.stop()
                return
        raise AssertionError(f"the watch ended with {self.known}")


def informer(core):
    def put(name, data, labels={"of": "informer"}):
        body = {"metadata": {"name": name, "labels": labels}, "data": data}
        try:
            core.create_namespaced_config_map(NAMESPACE, body)
        except ApiException as refusal:
            assert refusal.status == 409, refusal
            core.patch_namespaced_config_map(name, NAMESPACE, body)

    put("i-1", {"v": "1"})
    put("i-2", {"v": "1"})
    it = Informer(core)
    writer = threading.Thread(target=put, args=("i-3", {"v": "1"}))
    writer.start()
    it.run(until=lambda known: "i-3" in known)
    writer.join()
    assert sorted(it.known) == ["i-1", "i-2", "i-3"], it.known
    # Meanwhile nobody listens: one changes, one goes, one leaves the selection.
    put("i-1", {"v": "2"})
    core.delete_namespaced_config_map("i-2", NAMESPACE)
    put("i-3", {"v": "1"}, labels={"of": "nobody"})
    it.run(until=lambda known: known == {"i-1": {"v": "2"}})
    assert it.lists == 1, "it never had to list again"


def custom_objects():
    api = client.CustomObjectsApi()
    kind = (GROUP, VERSION, NAMESPACE, "backendpools")
    pool = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "BackendPool",
        "metadata": {"name": "python"},
        "spec": {"backends": [{"address": "198.51.100.7", "datacenter": "ams"}]},
    }
    api.create_namespaced_custom_object(*kind, pool)
    patch = {"metadata": {"annotations": {"by": "python"}}}
    patched = api.patch_namespaced_custom_object(*kind, "python", patch)
    assert patched["metadata"]["annotations"] == {"by": "python"}
    status = {"status": {"conditions": []}}
    api.patch_namespaced_custom_object_status(*kind, "python", status)
    cluster = api.list_cluster_custom_object(GROUP, VERSION, "backendpools")
    assert "python" in [it["metadata"]["name"] for it in cluster["items"]]
    wrong = {**pool, "metadata": {"name": "wrong"}, "spec": {"backends": [{"address": "x"}]}}
    refusal = refused(422, api.create_namespaced_custom_object, *kind, wrong)
    assert "spec.backends[0].address" in refusal.body, refusal.body
    api.delete_namespaced_custom_object(*kind, "python")


def dynamically():
    cluster = dynamic.DynamicClient(client.ApiClient())
    pools = cluster.resources.get(api_version=f"{GROUP}/{VERSION}", kind="BackendPool")
    assert pools.namespaced and "watch" in pools.verbs
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "BackendPool",
        "metadata": {"name": "applied"},
        "spec": {"backends": [{"address": "198.51.100.8", "datacenter": "ams"}]},
    }
    apply = lambda manager, body, **more: pools.server_side_apply(
        body=body, name="applied", namespace=NAMESPACE, field_manager=manager, **more
    )
    apply("one", body)
    other = {**body, "spec": {"backends": [{"address": "198.51.100.9", "datacenter": "ams"}]}}
    refused(409, apply, "two", other)
    taken = apply("two", other, force_conflicts=True)
    assert taken.spec.backends[0].address == "198.51.100.9"
    maps = cluster.resources.get(api_version="v1", kind="ConfigMap")
    assert maps.name == "configmaps"


def main():
    config.load_kube_config()
    assert client.VersionApi().get_code().major == "1"
    core = client.CoreV1Api()
    steps = [
        ("config maps", lambda: config_maps(core)),
        ("secrets", lambda: secrets(core)),
        ("events", lambda: events(core)),
        ("leases", leases),
        ("pages", lambda: pages(core)),
        ("informer", lambda: informer(core)),
        ("custom objects", custom_objects),
        ("dynamic client", dynamically),
    ]
    for name, step in steps:
        step()
        print(f"ok {name}")
    print(f"{len(steps)} of {len(steps)}")


if __name__ == "__main__":
    sys.exit(main())
