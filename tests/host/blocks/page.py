"""A page as gradio's own has it, without a browser: what the fields hold, and what an event sends and brings back."""

import itertools
import json

import httpx
from websockets.sync.client import connect

PATIENCE_S = 60
_NUMBERS = itertools.count()


class Failed(Exception):
    """An event that the server answered with an error."""


class Page:
    """One open page of a running gradio server."""

    def __init__(self, address):
        self.address, self._session = address.rstrip("/"), f"page{next(_NUMBERS)}"
        self._http = httpx.Client(base_url=self.address, timeout=PATIENCE_S)
        config = self._http.get("/config").json()
        self.events = config["dependencies"]
        self.components = {one["id"]: one for one in config["components"]}
        self._ids = {one["props"]["elem_id"]: one["id"] for one in config["components"] if one["props"].get("elem_id")}
        self.shown = []
        self.through = iter
        """What answers go through on their way; for tests that do something meanwhile."""

    def props(self, name):
        """Properties of an element as they are now."""
        return self.components[self._ids[name]]["props"]

    def value(self, name):
        return self.props(name).get("value")

    def put(self, name, value):
        """Change a field by hand, and do what follows from it."""
        self.props(name)["value"] = value
        self.fire(name, "change")

    def pick(self, name, value):
        """Choose one of a list."""
        self.props(name)["value"] = value
        self.fire(name, "select", {"value": value, "index": 0})

    def fire(self, name, trigger="click", data=None):
        """Everything an event sets off, one after the other; `shown` are the values that came by meanwhile."""
        target = self._ids[name]
        self.shown = []
        for number, event in enumerate(self.events):
            if target in event["targets"] and event["trigger"] == trigger and event["backend_fn"]:
                self._run(number, data)

    def _run(self, number, data=None):
        event = self.events[number]
        sent = [
            None if self.components[one]["type"] == "state" else self.components[one]["props"].get("value")
            for one in event["inputs"]
        ]
        body = {"fn_index": number, "data": sent, "event_data": data, "session_hash": self._session}
        changed = []
        answers = self._posted(body) if event["queue"] is False else self._queued(body)
        for answer in self.through(answers):
            changed += self._take(event["outputs"], answer)
        for one in dict.fromkeys(changed):
            self._follow([one], "change")
        for after, following in enumerate(self.events):
            if following["trigger_after"] == number and following["backend_fn"]:
                self._run(after)

    def _follow(self, targets, trigger):
        for number, event in enumerate(self.events):
            if event["targets"] == targets and event["trigger"] == trigger and event["backend_fn"]:
                self._run(number)

    def _take(self, outputs, values):
        """Put an answer's values into the page; the components whose value is another one now."""
        changed = []
        for one, value in zip(outputs, values, strict=True):
            props = self.components[one]["props"]
            new = value if isinstance(value, dict) and value.get("__type__") == "update" else {"value": value}
            if "value" in new and new["value"] != props.get("value"):
                changed.append(one)
            props.update({key: each for key, each in new.items() if key != "__type__"})
            self.shown.append((props.get("elem_id"), props.get("value")))
        return changed

    def _posted(self, body):
        answer = self._http.post("/run/predict", json=body)
        if answer.status_code != 200:
            raise Failed(answer.text)
        yield answer.json()["data"]

    def _queued(self, body):
        with connect(self.address.replace("http", "ws", 1) + "/queue/join") as socket:
            while True:
                message = json.loads(socket.recv(PATIENCE_S))
                if message["msg"] == "send_hash":
                    socket.send(json.dumps({"fn_index": body["fn_index"], "session_hash": self._session}))
                elif message["msg"] == "send_data":
                    socket.send(json.dumps(body))
                elif message["msg"] == "process_generating":
                    yield message["output"]["data"]
                elif message["msg"] == "process_completed":
                    if not message["success"]:
                        raise Failed(message["output"])
                    yield message["output"]["data"]
                    return

    def download(self, file):
        """The bytes of a file that a field offers."""
        return self._http.get(f"/file={file['name']}").content

    def call(self, path, body=None, method="GET"):
        """Status and answer of a page for programs."""
        answer = self._http.request(method, path, json=body)
        return answer.status_code, answer.json()
