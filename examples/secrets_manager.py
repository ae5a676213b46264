"""User, password and address from a secret of Secrets Manager. The password may be rotated while this runs.

SECRET_ID=shop/app python examples/secrets_manager.py

Who asks for the secret are boto3's usual credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID, the role of a container or of a
Lambda function. The secret is one of "credentials for a database", or any JSON with username, password, engine and
host. CA_FILE: who may vouch for the server, where RDS' bundle is in none of the places in docs/tls.md.
"""

import os

import rdsproxy_lib
from rdsproxy_lib import TLS, SecretsManager


def main() -> None:
    ca_file = os.environ.get("CA_FILE")
    with rdsproxy_lib.Proxy(  # asks nobody; the first connect() does
        credentials=SecretsManager(os.environ["SECRET_ID"]),
        tls=TLS(ca_file=ca_file) if ca_file else None,  # None: verified all the same
        max_connections=3,
    ) as proxy:
        connections = [proxy.connect() for _ in range(20)]
        for conn in connections:
            with conn.cursor() as cursor:
                cursor.execute("select current_user")
                (user,) = cursor.fetchone()
            conn.commit()
        stats = proxy.stats()
        print(f"{stats.client_connections} connections as {user}, {stats.database_connections} to the database,")
        print(f"{stats.database_connections_with_tls} of them with TLS")
        for conn in connections:
            conn.close()


if __name__ == "__main__":
    main()
