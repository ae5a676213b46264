"""What is known of a secret: what is fetched, and when, and what is said where there is nothing to be had."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from contextlib import closing, nullcontext, suppress

import boto3
import pytest

from rdsproxy_lib import ConfigurationError, CredentialsError, SecretsManager
from rdsproxy_lib import secrets_manager as module
from rdsproxy_lib.credentials import TryLater, Who
from tests.cluster.nodes import until
from tests.login.conftest import AWS_ENVIRONMENT
from tests.login.place import source_of
from tests.servers import APP_PASSWORD, APP_USER

WHO = Who(None, "db", 5432)


def offered(source, who=WHO, count=1):
    """The first passwords that are offered to one login, which has its secret ready as the first connect() has it."""
    source.prepare(5.0)
    with closing(source.offers(who, 5.0)) as offers:
        return [next(offers).password for _ in range(count)]


def let_in(source, password):
    """What is offered to one login, to the one that this password lets in."""
    tried = []
    with closing(source.offers(WHO, 30.0)) as offers:
        for credential in offers:
            tried.append(credential.password)
            if credential.password == password:
                source.accepted(WHO, credential)
                break
    return tried


def let_in_at_last(source, password):
    """The same of the first login that gets in."""

    def log_in():
        with suppress(TryLater):
            tried = let_in(source, password)
            return tried if password in tried else None

    return until(log_in, "it is let in")


@pytest.fixture
def patient(monkeypatch):
    """A login waits for the service however busy this machine is."""
    monkeypatch.setattr(module, "SERVICE_SECONDS", 20.0)


def test_a_thousand_threads_are_one_question(service):
    """Whoever comes while it is under way waits for its answer; later ones have it."""
    source = source_of(service, "one-question")
    found: list[str] = []
    gate = threading.Barrier(1000)

    def ask(number: int) -> None:
        gate.wait()
        found.extend(offered(source, Who(None, f"db{number}", 5432)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [APP_PASSWORD] * 1000
    assert service.count() == 1


def test_an_old_secret_is_used_while_it_is_asked_for_again(service):
    """Nobody waits for that: the login after finds the new one."""
    source = source_of(service, "stale", refresh=0.2)
    offered(source)
    service.put(source.secret_id, module.CURRENT, username=APP_USER, password="another")
    time.sleep(0.3)
    with service.trouble("hang", "GetSecretValue", times=1):
        began = time.monotonic()
        assert offered(source) == [APP_PASSWORD]
        assert offered(source) == [APP_PASSWORD]
        assert time.monotonic() - began < 1
    until(lambda: offered(source) == ["another"], "it is replaced")


@pytest.mark.parametrize("kind", ["throttle", "fail", "refuse"])
def test_a_service_in_trouble_is_asked_with_pauses_and_the_cached_secret_is_used(service, kind):
    """For as long as it works; the calls do not grow with the logins."""
    source = source_of(service, f"trouble-{kind}", refresh=0.1)
    offered(source)
    service.calls.clear()
    time.sleep(0.2)
    with service.trouble(kind, "GetSecretValue"):
        ends = time.monotonic() + 2.0
        logins = 0
        while time.monotonic() < ends:
            assert offered(source) == [APP_PASSWORD]
            logins += 1
            time.sleep(0.01)
    assert logins > 50
    assert service.count() <= 2 * 6  # pauses of 0.2, 0.4, 0.8 and 1.6 s, and the client's own second attempt
    time.sleep(2.5)
    offered(source)
    until(lambda: source._vault.trouble is None, "it is asked again, and answers")


def test_without_any_secret_a_service_in_trouble_is_waited_for(service):
    """It says why, and asks no more often than it pauses."""
    source = source_of(service, "nothing-yet")
    with service.trouble("throttle", "GetSecretValue"):
        with pytest.raises(TryLater) as caught:
            offered(source)
        assert "ThrottlingException" in str(caught.value.why)
        calls = service.count()
        with pytest.raises(TryLater):
            offered(source)
        assert service.count() == calls
    time.sleep(caught.value.seconds + 0.1)
    assert offered(source) == [APP_PASSWORD]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not JSON hush", "is not JSON with the texts 'username' and 'password'"),
        ('{"username": "app"}', "is not JSON with the texts"),
        ('{"username": "app", "password": 5}', "is not JSON with the texts"),
        ('["hush"]', "is not JSON with the texts"),
    ],
)
def test_what_is_no_secret_of_a_database_is_said_without_any_of_it(service, text, said):
    """At once: asking again is no help."""
    source = source_of(service, "no-secret")
    service.manager.put_secret_value(SecretId=source.secret_id, SecretString=text)
    with pytest.raises(CredentialsError, match=said) as caught:
        offered(source)
    assert "hush" not in str(caught.value)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("trouble", ["rubbish", "fail"])
def test_a_pending_version_that_cannot_be_had_hides_no_current_one(service, trouble):
    """A rotation failed and left rubbish, or AWS has trouble with it: the password that comes later is found."""
    source = source_of(service, f"hidden-by-{trouble}")
    assert let_in(source, APP_PASSWORD) == [APP_PASSWORD]
    rubbish = {"SecretString": "rubbish", "VersionStages": [module.PENDING]}
    service.manager.put_secret_value(SecretId=source.secret_id, **rubbish)
    with service.trouble("fail", stage=module.PENDING) if trouble == "fail" else nullcontext():
        with pytest.raises(TryLater):
            let_in(source, "another")
        service.put(source.secret_id, module.CURRENT, username=APP_USER, password="another")
        assert let_in_at_last(source, "another")[-1] == "another"


@pytest.mark.usefixtures("patient")
def test_each_rotation_is_a_question_of_its_own(service):
    """Whatever became of the last one's: a pending version that could not be asked for is forgotten with the login."""
    source = source_of(service, "of-its-own")
    assert let_in(source, APP_PASSWORD) == [APP_PASSWORD]
    service.put(source.secret_id, module.CURRENT, username=APP_USER, password="second")
    with service.trouble("fail", stage=module.PENDING):
        assert let_in(source, "second") == [APP_PASSWORD, "second"]
    until(lambda: not source._vault.pause.left, "the service may be asked again")
    service.put(source.secret_id, module.CURRENT, username=APP_USER, password="third")
    assert let_in(source, "third") == ["second", "third"], "in one login"


@pytest.mark.usefixtures("patient")
def test_an_answer_that_comes_late_is_for_the_next_login_alone(service, monkeypatch):
    """It counts for who asked and could not wait; for the next rotation there is a new question."""
    source = source_of(service, "late")
    assert let_in(source, APP_PASSWORD) == [APP_PASSWORD]
    service.put(source.secret_id, module.CURRENT, username=APP_USER, password="second")
    with monkeypatch.context() as impatient:
        impatient.setattr(module, "SERVICE_SECONDS", 0.0)
        with pytest.raises(TryLater):
            let_in(source, "second")
        until(lambda: module.PENDING in source._vault.asked_at, "both questions are answered")
        assert let_in_at_last(source, "second") == ["second"]
    service.put(source.secret_id, module.CURRENT, username=APP_USER, password="third")
    assert let_in(source, "third") == ["second", "third"]


def test_a_secret_that_is_not_there_is_said(service):
    """By its name, with what the service says."""
    source = SecretsManager("nobody-made-it", endpoint_url=service.endpoint_url)
    with pytest.raises(CredentialsError, match=r"nobody-made-it could not be read: .*ResourceNotFoundException"):
        offered(source)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "Unable to locate credentials"),
        (("AWS_SECRET_ACCESS_KEY",), "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"),
    ],
)
@pytest.mark.parametrize("is_given", [False, True])
def test_aws_credentials_that_come_later_are_found(service, aws, is_given, missing, said):
    """Where there are none, or half of them, it is said at once: nobody waits for them. But none is remembered."""
    arn = source_of(service, "without-credentials").secret_id
    session = boto3.Session() if is_given else None
    source = SecretsManager(arn, endpoint_url=service.endpoint_url, session=session)
    for name in missing:
        aws.delenv(name)
    with pytest.raises(CredentialsError, match=said):
        offered(source)
    for name in missing:
        aws.setenv(name, AWS_ENVIRONMENT[name])
    until(lambda: not source._vault.pause.left, "it may be asked again")
    assert offered(source) == [APP_PASSWORD]


def test_keys_of_ones_own(service):
    """Names in the JSON that are not RDS'."""
    arn = service.create("own-keys", login="app", secret="hush")
    source = SecretsManager(arn, endpoint_url=service.endpoint_url, username_key="login", password_key="secret")
    assert offered(source) == ["hush"]


def test_the_region_is_the_arns(service, monkeypatch):
    """Else the session's; without any it is said."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    source = source_of(service, "region")
    assert offered(source) == [APP_PASSWORD]
    with pytest.raises(CredentialsError, match="region"):
        offered(SecretsManager("region", endpoint_url=service.endpoint_url))
    with closing(boto3.Session(region_name="eu-west-1").client("sts")):
        session = boto3.Session(region_name="eu-west-1")
    assert offered(SecretsManager("region", endpoint_url=service.endpoint_url, session=session)) == [APP_PASSWORD]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"secret_id": ""}, "secret_id must be"),
        ({"secret_id": 5}, "secret_id must be"),
        ({"secret_id": "a", "refresh": 0}, "refresh must be"),
        ({"secret_id": "a", "refresh": True}, "refresh must be"),
        ({"secret_id": "a", "profile": "p", "session": object()}, "either profile or session"),
    ],
)
def test_wrong_arguments_are_said_at_once(arguments, said):
    """With the name of the argument."""
    with pytest.raises(ConfigurationError, match=said):
        SecretsManager(**arguments)


def test_copies_are_one_source(service):
    """As in settings that a framework copies: they share what they know, and their questions."""
    source = source_of(service, "copied")
    settings = {"OPTIONS": {"credentials": {APP_USER: source}}}
    copies = [copy.deepcopy(settings)["OPTIONS"]["credentials"][APP_USER] for _ in range(20)]
    copies += [copy.copy(source) for _ in range(20)]
    assert copies == [source] * 40
    found: list[str] = []
    gate = threading.Barrier(40)

    def ask(number: int) -> None:
        gate.wait()
        found.extend(offered(copies[number], Who(None, f"db{number}", 5432)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [APP_PASSWORD] * 40
    assert service.count() == 1


def test_a_pickled_source_takes_nothing_along(service):
    """It is for another process: its arguments are the same, what is known of the secret is not in it."""
    source = source_of(service, "pickled", refresh=7.0)
    assert offered(source) == [APP_PASSWORD]
    text = pickle.dumps(source)
    assert APP_PASSWORD.encode() not in text
    other = pickle.loads(text)
    assert other == source
    assert offered(other) == [APP_PASSWORD]
    assert service.count() == 2


def test_a_forked_child_asks_for_itself(service):
    """The parent's connections to the service are not its own, nor are its locks; what is known stays."""
    source = source_of(service, "forked", refresh=0.05)
    offered(source)
    time.sleep(0.1)
    with source._vault.lock:  # as if another thread had it
        pid = os.fork()
        if pid == 0:
            try:
                source.after_fork()
                assert offered(source) == [APP_PASSWORD]
                until(lambda: source._vault.client is not None, "it has a client of its own")
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
