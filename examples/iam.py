"""Log in with IAM tokens: no password anywhere. The policy and the SQL that this takes are in docs/credentials.md.

DATABASE_URL=postgresql://app@shop-1.c1a2b3.eu-west-1.rds.amazonaws.com/shop python examples/iam.py
DATABASE_URL=mysql://app@shop-1.c1a2b3.eu-west-1.rds.amazonaws.com/shop python examples/iam.py

Who signs are boto3's usual credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID, the role of a container or of a Lambda
function. RDS_HOST: the name that AWS gave the endpoint, where the URL has another one (a tunnel, an address). CA_FILE:
who may vouch for the server, where RDS' bundle is in none of the places in docs/tls.md.
"""

import os

import rdsproxy_lib
from rdsproxy_lib import TLS, IamToken


def main() -> None:
    ca_file = os.environ.get("CA_FILE")
    with rdsproxy_lib.Proxy(
        os.environ["DATABASE_URL"],
        credentials=IamToken(host=os.environ.get("RDS_HOST")),
        tls=TLS(ca_file=ca_file) if ca_file else None,  # None: verified all the same
        max_connections=3,
    ) as proxy:
        connections = [proxy.connect() for _ in range(20)]
        for conn in connections:
            with conn.cursor() as cursor:
                cursor.execute("select 40 + 2")
                assert cursor.fetchone() == (42,)
            conn.commit()
        stats = proxy.stats()
        print(f"{stats.client_connections} connections, {stats.database_connections} to the database,")
        print(f"{stats.database_connections_with_tls} of them with TLS")
        for conn in connections:
            conn.close()


if __name__ == "__main__":
    main()
