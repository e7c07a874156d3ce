"""Pairs of all sorts; the rules are English, and say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.agreement import MAX_COMPARED, agree
from ryzanstein.memory.agreement.statement import parse

SAME = [
    ("No that is wrong.", "That is wrong."),
    ("What is the port?", "what is the port"),
    ("The staging database is called orion.", "The staging database is named orion"),
    ("The staging database is called orion.", 'Our staging database is called "orion"'),
    ("Alice's favourite colour is blue.", "Alice's favorite color is blue"),
    ("Alice's favourite colour is blue.", "Blue is Alice's favourite colour."),
    ("Alice prefers dark roast coffee.", "alice prefers dark  roast coffee"),
    ("The deploy runs every Friday at 17:00.", "The deploy runs each Friday at 5 pm"),
    ("In Paris Anna met Bob.", "Anna met Bob in Paris."),
    ("On Monday Anna flew to Rome.", "Anna flew to Rome on Monday."),
    ("The file is 5 km away.", "The file is 5,000 metres away."),
    ("The disk holds 2 TB.", "The disk holds 2000 GB."),
    ("The budget is $5 million.", "The budget is 5,000,000 dollars."),
    ("The call is on 5 May 2023.", "The call is on May 5th, 2023."),
    ("The call is on 2023-05-05.", "The call is on 5 May 2023."),
    ("Tom doesn't eat meat.", "Tom does not eat meat."),
    ("Tom has moved to Berlin.", "Tom moved to Berlin."),
    ("Anna has three cats.", "Anna has 3 cats."),
    ("Cats and dogs like Anna.", "Dogs and cats like Anna."),
    ("She met Anna and Bob.", "She met Bob and Anna."),
    ("Anna really likes tea.", "Anna likes tea."),
    ("Config lives in /etc/app/main.toml.", "The config lives in `/etc/app/main.toml`."),
    ("The database config is in the repo.", "The db configuration is in the repository."),
    ("It's at 10:30 am.", "It is at 10:30."),
    ("The build takes twenty-five minutes.", "The build takes 25 minutes."),
    ("The build takes two hours.", "The build takes 120 minutes."),
    ("Anna won't come on Friday.", "Anna will not come on Friday."),
    ("Alice's neighbour loves her garden.", "Alice's neighbor loves her garden"),
    ("The API key is stored in Vault.", "An API key is stored in Vault"),
    ("No, Anna likes tea.", "Anna likes tea."),
    ("The limit is 1,000 requests per minute.", "The limit is 1000 requests per minute"),
    ("User prefers dark mode.", "The user prefers dark mode"),
    ("Melanie has two kids.", "Melanie has 2 children."),
    ("Anna's boss is Bob.", "Bob is Anna's boss."),
    ("See https://example.org/a.", "See https://example.org/a"),
    ("The tests take about 3 minutes.", "The tests take about 180 seconds."),
    ("CPU usage is 80%.", "CPU usage is 80 percent."),
    ("The room is on the third floor.", "The room is on the 3rd floor."),
    ("会议在周一。", "会议在周一"),
]
DIFFERS = [
    ("What is 15 ounces in grams?", "What is 10 ounces in grams?"),
    ("Is the shop open?", "Is the shop closed?"),
    ("Do you like tea?", "Do you not like tea?"),
    ("The server is down.", "The servers are down."),
    ("Anna has a cat.", "Anna has cats."),
    ("The show was nice 👍", "The show was nice 👎"),
    ("IT is responsible.", "It is responsible."),
    ("Twenty, five at most.", "Twenty-five at most."),
    ("Anna likes green tea and coffee.", "Anna likes green coffee and tea."),
    ("She met Mark Antony and Octavia.", "She met Mark Octavia and Antony."),
    ("She met Sophie and Dominic Hall.", "She met Dominic and Sophie Hall."),
    ("It is a three-sided coin.", "It is a three-legged coin."),
    ("Anna likes tea.", "Anna likes green tea."),
    ("The server is in Frankfurt.", "The staging server is in Frankfurt."),
    ("The dog chased the cat.", "The cat chased the dog."),
    ("Anna paid Bob.", "Bob paid Anna."),
    ("The client calls the server.", "The server calls the client."),
    ("All dogs are animals.", "All animals are dogs."),
    ("Anna flew from Paris to London.", "Anna flew from London to Paris."),
    ("There are more cats than dogs.", "There are more dogs than cats."),
    ("Bob's boss likes Anna.", "Anna likes Bob's boss."),
    ("Anna bought 5 cats and 3 dogs.", "Anna bought 3 cats and 5 dogs."),
    ("Anna bought 3 apples.", "Anna bought 5 apples."),
    ("Anna met Bob on Monday.", "Anna met Bob on Tuesday."),
    ("Anna met Bob in Paris.", "Anna met Bob in London."),
    ("Anna likes tea.", "Does Anna like tea?"),
    ("Anna likes tea.", "Anna may like tea."),
    ("Anna moved to Paris.", "Anna will move to Paris."),
    ("The office is in Berlin.", "The office was in Berlin."),
    ("The shop closes at 5.", "The shop closed at 5."),
    ("I like tea.", "You like tea."),
    ("My phone is red.", "Your phone is red."),
    (
        "On Monday Anna left and on Tuesday Bob came.",
        "On Tuesday Anna left and on Monday Bob came.",
    ),
    ("Tea or coffee is fine.", "Tea and coffee is fine."),
    ("Anna likes tea, not coffee.", "Anna likes coffee, not tea."),
    ("Anna wrote the report.", "Anna wants to write the report."),
    ("If it rains, Anna stays.", "Anna stays."),
    ("The floor is the first.", "The room is the first."),
    ("See /etc/App/main.", "See /etc/app/main."),
    ("James likes tea.", "Jame likes tea and milk."),
    ("We use Python 3.1 here.", "We use Python 3.10 here."),
    ("Anna knows James Wall.", "Anna knows James Walls."),
    ("Anna visited Rome.", "Anna visited Rome twice."),
    ("Anna mag Kaffee.", "Anna mag Kaffee nicht."),
    ("Anna and Bob went to Rome.", "Anna went to Rome."),
    ("Sorry!", "Thanks!"),
    ("The limit is 1,000 requests per minute.", "The limit is 1000 requests per hour."),
    ("Tests must pass before merging.", "Tests need not pass before merging."),
    ("Anna does not.", "Anna does."),
    ("Anna thinks that Bob likes tea.", "Bob thinks that Anna likes tea."),
    ("It is 5.", "It is 6."),
    ("Deployments are forbidden on Fridays.", "Deployments are not allowed on Fridays."),
    ("The shop isn't open.", "The shop is closed."),
    ("Neither Anna nor Bob likes tea.", "Anna likes tea and Bob likes tea."),
    ("The soup is not hot.", "The soup is cold."),
    ("Anna is Bob's boss.", "Bob is Anna's boss."),
    ("See https://example.org/a.", "See https://example.org/b."),
    ("Call getUser first.", "Call get_user first."),
    ("Mail bob@example.org.", "Mail rob@example.org."),
    ("Run `make test`.", "Run `make check`."),
    ('He said "come at once".', 'He said "go at once".'),
    ("会议在周一。", "会议在周二。"),
    ("¡Hola!", "🙂"),
]
CONTRADICTS = [
    ("It is open.", "It is closed."),
    ("There is a cat in the house.", "There is no cat in the house."),
    ("This is the red line.", "This is not the red line."),
    ("Do not deploy on Fridays.", "Do deploy on Fridays."),
    ("The build stopped during the night.", "The build ran during the night."),
    ("Latency is < 5 ms.", "Latency is > 5 ms."),
    ("The port is 8080.", "The port is 9090."),
    ("The staging database is called orion.", "The staging database is called vega."),
    ("Anna likes coffee.", "Anna doesn't like coffee."),
    ("Anna likes coffee.", "Anna no longer likes coffee."),
    ("Anna likes coffee.", "Anna does not like coffee anymore."),
    ("Anna likes coffee.", "Anna never likes coffee."),
    ("Anna likes coffee.", "Anna dislikes coffee."),
    ("Anna likes coffee.", "Anna hates coffee."),
    ("The shop is open.", "The shop is closed."),
    ("The light is on.", "The light is off."),
    ("The light is turned on.", "The light is turned off."),
    ("Anna smokes.", "Anna stopped smoking."),
    ("Tom lives in Paris.", "Tom used to live in Paris."),
    ("Tom lives in Paris.", "Tom lives in London."),
    ("Tom works at Google.", "Tom works at Meta."),
    ("Anna drinks coffee with sugar.", "Anna drinks coffee without sugar."),
    ("Anna can swim.", "Anna can't swim."),
    ("The service is available.", "The service is unavailable."),
    ("The service is stable.", "The service is unstable."),
    ("The feature is enabled.", "The feature is disabled."),
    ("The meeting is on Monday.", "The meeting is on Tuesday."),
    ("The meeting is on Monday at 10:00.", "The meeting is on Monday at 11:00."),
    ("The meeting is before noon.", "The meeting is after noon."),
    ("Anna is 30 years old.", "Anna is 31 years old."),
    ("The current version is 1.2.3.", "The current version is 1.2.4."),
    ("Alice's favourite colour is blue.", "Alice's favourite colour is green."),
    ("Alice's favourite dish is pizza.", "Alice's favourite dish is pasta."),
    ("The car is red.", "The car is blue."),
    ("Everyone likes tea.", "Nobody likes tea."),
    ("Anna is vegetarian.", "Anna is not vegetarian."),
    ("Anna isn't married.", "Anna is married."),
    ("The ticket costs $5.", "The ticket costs $6."),
    ("Retries are always safe.", "Retries are never safe."),
    ("Alice prefers tea.", "Alice prefers coffee."),
    ("User prefers dark mode.", "User prefers light mode."),
    ("The temperature is -5 °C.", "The temperature is 5 °C."),
    ("The timeout is 30 seconds.", "The timeout is 30 minutes."),
    ("The timeout is 30s.", "The timeout is 45 s."),
    ("Deployments are allowed on Fridays.", "Deployments are forbidden on Fridays."),
    ("Deployments are allowed on Fridays.", "Deployments are not allowed on Fridays."),
    ("The screen is 27 inches wide.", "The screen is 27 cm wide."),
    ("CPU usage is 80%.", "CPU usage is 90 percent."),
    ("The room is on the second floor.", "The room is on the 3rd floor."),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_texts_that_say_the_same_agree(one: str, other: str) -> None:
    assert agree(one, other).verdict == agree(other, one).verdict == "same"


@pytest.mark.parametrize(("one", "other"), DIFFERS)
def test_texts_that_say_different_things_differ(one: str, other: str) -> None:
    assert agree(one, other).verdict == agree(other, one).verdict == "differs"


@pytest.mark.parametrize(("one", "other"), CONTRADICTS)
def test_texts_that_exclude_each_other_contradict(one: str, other: str) -> None:
    assert agree(one, other).verdict == agree(other, one).verdict == "contradicts"


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("The port is 8080.", "The port is 9090.", "another value: 8080 / 9090"),
        ("Anna likes tea.", "Anna doesn't like tea.", "one denies: likes"),
        ("The shop is open.", "The shop is closed.", "opposites: open / closed"),
        ("Tom lives here.", "Tom used to live here.", "one says it used to be so"),
        ("Anna met Bob.", "Anna met Carl.", "names differ: Bob / Carl"),
        ("Anna has a cat.", "Anna has a black cat.", "only one says: black"),
        ("Anna likes tea.", "Does Anna like tea?", "one is a question"),
        ("Anna paid Bob.", "Bob paid Anna.", "the same words in another order"),
        ("Anna moved.", "Anna will move.", "one speaks of the future"),
    ],
)
def test_the_reason_is_given_in_words(one: str, other: str, reason: str) -> None:
    assert reason in agree(one, other).reasons


def test_a_brief_reason_holds_no_word_of_the_texts() -> None:
    assert agree("The port is 8080.", "The port is 9090.").brief == "another value"


def test_long_texts_are_compared_whole_or_not_at_all() -> None:
    long = "Anna likes tea. " * (MAX_COMPARED // 10)
    assert agree(long, long).verdict == "same"
    assert agree(long, long + "Bob too.").verdict == "differs"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_two_texts_can_be_compared_in_either_order(one: str, other: str) -> None:
    assert agree(one, other).verdict == agree(other, one).verdict
    assert agree(one, one).verdict == "same"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("5 km", "length:5000"),
        ("5,000 metres", "length:5000"),
        ("$5 million", "usd:5000000"),
        ("two hundred and five", "205"),
        ("twenty-five minutes", "time:1500"),
        ("80 percent", "%:80"),
        ("16 GiB", "bytes:17179869184"),
        ("1.50", "1.5"),
        ("-5", "-5"),
        ("3rd", "rank:3"),
        ("5 May 2023", "date:2023-05-5"),
        ("May 5th, 2023", "date:2023-05-5"),
        ("2023-05-05", "date:2023-05-5"),
        ("May 2023", "date:2023-05-*"),
        ("5:30 pm", "clock:17:30"),
        ("noon", "clock:12:00"),
        ("v1.2.3", "1.2.3"),
        ("/etc/Hosts", "/etc/Hosts"),
        ("getUser", "getuser"),
    ],
)
def test_numbers_dates_and_identifiers_have_one_form(text: str, key: str) -> None:
    assert [term.key for term in parse(text).terms] == [key]
