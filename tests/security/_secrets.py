"""Secrets of every form, made up here, and what only looks like one."""

from __future__ import annotations

import base64

RANDOM = "Zx9Qw7Er5Ty3Ui1Op0As"
"""What no one would have thought of, as the value of a key that says that it is a secret."""
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

FORMS = {
    "aws id": "AKIAQ3EGRZ7XAMPLE2KL",
    "aws temporary id": "ASIAQ3EGRZ7XAMPLE2KM",
    "hugging face": "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi",
    "openai": "sk-" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7jKl0n",
    "openai project": "sk-proj-" + "Ab3d_Ef6hIj9lMn2pQr5tUv8xYz-1bCd4fGh",
    "anthropic": "sk-ant-api03-" + "Ab3d-Ef6hIj9lMn2pQr5tUv8xYz_1bCd4fGh",
    "wandb v1": "wandb_v1_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4f",
    "github": "ghp_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j",
    "github fine": "github_pat_11ABCDEFG0_" + "Ab3dEf6hIj9lMn2pQr5tUv8x",
    "gitlab": "glpat-" + "Ab3dEf6hIj9lMn2pQr5t",
    "databricks": "dapi" + HEX,
    "npm": "npm_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j",
    "pypi": "pypi-AgEIcHlwaS5vcmcC" + "Ab3dEf6hIj9lMn2pQr5tUv8x",
    "stripe": "sk_live_" + "Ab3dEf6hIj9lMn2pQr5tUv8x",
    "sendgrid": "SG." + "Ab3dEf6hIj9lMn2pQr5tUv.Xz1bCd4fGh7jKl0nOp3rSt6uVw9y",
    "twilio": "SK" + HEX,
    "slack": "xoxb-" + "123456789012-Ab3dEf6hIj9lMn2pQr5t",
    "telegram": "123456789:" + "AAb3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh",
    "google": "AIza" + "SyAb3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fG",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.Ab3dEf6hIj9lMn2pQr5t",
    "groq": "gsk_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j",
    "hugging face by OAuth": "hf_oauth_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4f",
    "docker": "dckr_pat_" + "Ab3d_Ef6hIj9lMn2pQr5tUv8xYz",
    "grafana": "glsa_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4f_0f1e2d3c",
    "replicate": "r8_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j",
}
"""Known wherever they stand, by name."""

PLACES = {
    "a command line": "python train.py --api-key {} --lr 1e-5",
    "an option with =": "train --hub-token={}",
    "a quoted option": "['train.py', '--password', '{}', '--lr', '1e-5']",
    "an assignment": "OPENAI_API_KEY={} python train.py",
    "a quoted assignment": "export DB_PASSWORD='{}'",
    "JSON": '{{"hub": {{"hub_token": "{}"}}}}',
    "JSON in JSON": '{{\\"hub_token\\": \\"{}\\"}}',
    "a dictionary": "{{'token': '{}'}}",
    "a data class": "HubConfig(hub_token='{}', private=True)",
    "an exception": "HTTPError: 401 for token={} at step 3",
    "YAML": "secret_key: {}",
    "a bearer header": "Authorization: Bearer {}",
    "a bearer header in a dictionary": "{{'Authorization': 'Bearer {}'}}",
    "a URL's password": "https://me:{}@mlflow.example/api",
    "a URL's user": "https://{}@mlflow.example/api",
    "a database's password": "postgresql+psycopg2://u:{}@db:5432/mlflow",
    "a password with a slash": "postgresql://u:1/{}@db:5432/mlflow",
    "a signed URL": "https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature={}&x=1",
    "a signature of Azure": "https://x.blob.core.windows.net/c?sv=2020&sig={}%3D&se=2",
    "a key of Azure": "DefaultEndpointsProtocol=https;AccountName=x;AccountKey={}==;EndpointSuffix=core",
    "an access signature of Azure": "BlobEndpoint=https://x;SharedAccessSignature={}",
    "a connection by ODBC": "Driver=x;UID=u;PWD={};Server=h",
    "a webhook of Slack": "https://hooks.slack.com/services/T00/B00/{}",
    "a webhook of Discord": "https://discord.com/api/webhooks/123/{}",
    "the user of curl": "curl -sS -u me:{} https://x",
    "a header of one's own": "X-Auth-Token: {}",
    "a nested value": '{{"hub_token": {{"value": "{}"}}}}',
    "a list": "password=['{}']",
    "netrc": "machine api.wandb.ai login user password {}",
    "a service account": '{{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\n{}"}}',
    "PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n{}\n-----END RSA PRIVATE KEY-----",
}
"""Texts that give a secret away which itself has no form."""

KEYS = (
    *(
        "hub_token",
        "apiKey",
        "AWS_SECRET_ACCESS_KEY",
        "wandb_api_key",
        "WANDB_API_KEY",
        "AccountKey",
        "password",
    ),
    *("PGPASSWORD", "db.passwd", "clientSecret", "GOOGLE_APPLICATION_CREDENTIALS", "cookie", "slack_webhook"),
    *(
        "Authorization",
        "auth",
        "jwt",
        "ssh_key",
        "signing-key",
        "connection_string",
        "SENTRY_DSN",
        "auth_token",
        "smtp_pass",
        "DB_PASS",
        "OPENAI_KEY",
        "MYSQL_PWD",
    ),
)

FRIENDS = {
    "pad_token": "<|endoftext|>",
    "eos_token": "</s>",
    "bos_token": "[BOS]",
    "stop_token": "Q7xy8zA9bc1de2fg3",
    "pad_token_id": "151643",
    "num_tokens": "1234",
    "max_completion_tokens": "256",
    "num_input_tokens_seen": "1.5e9",
    "tokens_in": "a1b2c3d4e5f6a7b8c9",
    "token_accuracy": "0.75",
    "key_metric": "eval/a1b2c3d4e5f6a7b8c9",
    "author": "jane-doe-1a2b3c4d5e6f7g8h9",
    "monkey": "a1b2c3d4e5f6a7b8c9d0",
    "auth_free": "a1b2c3d4e5f6a7b8c9d0",
    "sort_key": "completion_text_v2_final",
    "git_sha": "9a3f0c1e5b7d9a3f0c1e5b7d9a3f0c1e5b7d9a3f",
    "tokenizer": "meta-llama/Llama-3.1-8B-Instruct",
    "model": "acme/policy-9a3f0c1e5b7d9a3f0c1e5b7d",
    "dataset": base64.b64encode(b"helpful and harmless, the second half").decode(),
    "run_id": "20261125-181500-9a3f0c1e",
    "hub_token": "<HUB_TOKEN>",
    "push_to_hub_token": "None",
}
"""Names and values that look like secrets, and are none."""

HARMLESS = (
    "kl:0.1@step",
    "pad_token='<pad>', eos_token='</s>', pad_token_id=0, max_tokens=128",
    "tokens per second: 1,234.5 of 20000 tokens",
    "at commit 9a3f0c1e5b7d9a3f0c1e5b7d9a3f0c1e5b7d9a3f of git@github.com:acme/repo.git",
    "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "run 550e8400-e29b-41d4-a716-446655440000 in /home/jane/keys/tokens/x.jsonl",
    "invalid token: expected ',' at 5",
    "see https://github.com/a/b/blob/v1@x#L1 and http://127.0.0.1:5000/#/experiments/1/runs/0f1e2d3c",
    "Basic configuration, the bearer of news, a secret of success",
    "the sort key: length; author=jane, monkey: banana42x9",
    "task-abcdefghijklmnopqrstuvwxyz and sk-learn-baseline-2026-experiment-01",
    "mean_token_accuracy is 0.5 where num_tokens=5 and token=12",
    "s3://bucket/checkpoints/step-100@final",
    'docker run -v "$PWD:/data" -u 1000:1000 in PWD=/home/jane OLDPWD=/ and no curl',
    "the forward pass: computed in 3.5ms; first_pass=yes, num_pass=3",
    "use_auth_token=True, token=None, tokens=[1,2,3]; --password <PASSWORD>",
    "its ports ask for no password: leave them there; it holds a secret: the build's own",
    "tests/test_no_secret_leaves.py::test_it and the login by password that it makes",
)
