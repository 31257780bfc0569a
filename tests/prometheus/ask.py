"""Asks Prometheus' HTTP API on loopback, and prints the JSON that it answers: ask.py URL PATH [NAME=VALUE]...

Ends with 1 where the answer is an error."""

import sys
import urllib.error
import urllib.parse
import urllib.request

url, path, *pairs = sys.argv[1:]
query = urllib.parse.urlencode([tuple(pair.split("=", 1)) for pair in pairs])
try:
    with urllib.request.urlopen(f"{url}{path}?{query}", timeout=10) as answer:
        print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
    sys.exit(1)
