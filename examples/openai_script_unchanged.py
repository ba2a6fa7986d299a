"""Fine-tune with the `openai` package and nothing else, then ask the result.

    python openai_script_unchanged.py TRAIN.jsonl BASE_MODEL

Against the vendor it needs OPENAI_API_KEY; against your own machine also
OPENAI_BASE_URL=http://127.0.0.1:8000/v1 (see docs/serve.md). Not a line of it changes.
"""

import json
import sys
import time

from openai import OpenAI

path, base = sys.argv[1:3]
client = OpenAI()

with open(path, "rb") as file:
    training = client.files.create(file=file, purpose="fine-tune")
print("uploaded", training.id, training.bytes, "bytes")

job = client.fine_tuning.jobs.create(
    model=base,
    training_file=training.id,
    suffix="example",
    seed=7,
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
)
print("job", job.id, job.status)

seen = set()
while True:
    job = client.fine_tuning.jobs.retrieve(job.id)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    for event in reversed(events):
        if event.id not in seen:
            seen.add(event.id)
            print("event", event.message)
    if job.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(1)

if job.status != "succeeded":
    sys.exit(f"{job.status}: {job.error.message if job.error else ''}")
print("model", job.fine_tuned_model, job.trained_tokens, "tokens")
print("results", client.files.content(job.result_files[0]).text.splitlines()[0])

with open(path) as file:
    question = json.loads(file.readline())["messages"][:-1]
answer = client.chat.completions.create(
    model=job.fine_tuned_model, messages=question, max_tokens=100, temperature=0
)
print("answer", answer.choices[0].message.content)

stream = client.chat.completions.create(
    model=job.fine_tuned_model, messages=question, max_tokens=100, temperature=0, stream=True
)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
print("same in pieces", streamed == answer.choices[0].message.content)
