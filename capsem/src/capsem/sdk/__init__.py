"""Machines from Python: `Sandbox` and `AsyncSandbox`. Nothing has to run before; the service is started when needed.

with Sandbox.create() as box:
    print(box.commands.run("uname -a").stdout)
"""
