"""``GET /v1/policy``: meaning, law, limits, and what is kept."""

import pytest
from ferserve.policy import policy
from ferserve.settings import Settings
from in_process import serving


@pytest.mark.parametrize("counted", [False, True])
async def test_the_policy_says_what_the_service_does(standin_models, counted):
    async with serving(standin_models, metrics_emotions=counted) as client:
        answer = (await client.get("/v1/policy")).json()
    assert answer["data_use"]["images_stored"] is False
    assert answer["data_use"]["faces_counted_by_emotion"] is counted
    assert "images" in answer["data_use"]["never_logged"]


def test_the_score_is_of_an_expression_not_of_a_feeling():
    assert "not what the person feels" in policy(Settings()).meaning


def test_labels_and_votes_are_told_apart():
    text = policy(Settings()).labels_and_votes
    assert "search" in text
    assert "ten people" in text
    assert "overlooks more of the sad, fearful and disgusted ones" in text


def test_the_law_is_named_with_its_articles():
    rules = {rule.reference.rsplit(", ", 1)[1]: rule for rule in policy(Settings()).law}
    assert set(rules) == {"Article 5(1)(f)", "Article 50(3)"}
    assert "workplace and education" in rules["Article 5(1)(f)"].says
    assert "inform" in rules["Article 50(3)"].says
