"""Ask the server that was already running when this sandbox started."""

import urllib.request

print(urllib.request.urlopen("http://127.0.0.1:8000/").read().decode(), end="")
