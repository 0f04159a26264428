"""What all services say."""

import os


def greeting():
    return f"{os.environ.get('GREETING', 'hello')} from {os.environ.get('CHANNEL', 'nowhere')}"
