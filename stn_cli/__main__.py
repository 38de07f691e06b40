from stn_cli.main import run

run()
