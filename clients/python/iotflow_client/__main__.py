from iotflow_client.cli import main

raise SystemExit(main())
