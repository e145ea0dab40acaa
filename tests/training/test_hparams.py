"""TensorBoard's HParams page, read back as the page itself reads it."""

import pytest
from tensorboard import context as request_context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from tf_hugebatch.records import RunFolder
from tf_hugebatch.settings import Settings
from tf_hugebatch.training.journal import Journal


def write_run(folder, status, final, **given):
    settings = Settings(dataset="mnist5k", batch_size=500, **given)
    journal = Journal(RunFolder(folder), settings, {})
    journal.go_on_after(0)
    journal.evaluation("test", 3, {"accuracy": 0.25})
    journal.close(status, 3, final)


def groups_in(folder):
    """{group's name: {session's folder: session}} and the settings of each group, by the plugin's own backend."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    asking = request_context.RequestContext()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(base_plugin.TBContext(logdir=str(folder), data_provider=provider))
    metadata = context.hparams_metadata(asking, "")
    hparams = context.hparams_from_data_provider(asking, "", 100)
    experiment = context.experiment_from_metadata(asking, "", True, metadata, hparams)
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10, allowed_statuses=[
        api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING])
    for metric in experiment.metric_infos:
        request.col_params.add(metric=metric.name)
    return list_session_groups.Handler(asking, context, "", request).run().session_groups


def test_settings_and_final_numbers_are_on_the_page(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"lars{seed}" / "tensorboard", "done", {"test_accuracy": seed / 4, "validation_accuracy": None},
                  optimizer="lars", trust_bounds=(0, 10), seed=seed)
    write_run(tmp_path / "sgd" / "tensorboard", "diverged", {"test_accuracy": 0.125}, optimizer="sgd", learning_rate=7)
    lars, sgd = sorted(groups_in(tmp_path), key=lambda group: group.hparams["optimizer"].string_value)
    assert len(lars.sessions) == 2 and len(sgd.sessions) == 1, "seeds of one setting are one group"
    assert lars.hparams["trust_bounds"].string_value == "0.0,10.0" and lars.hparams["batch_size"].number_value == 500
    assert sgd.hparams["learning_rate"].number_value == 7 and sgd.hparams["nesterov"].bool_value is False
    assert not {"data_dir", "run_dir", "micro_batch_size", "seed"} & set(sgd.hparams), "layout and reporting are no experiment"
    assert [session.status for session in sgd.sessions] == [api_pb2.STATUS_FAILURE]
    assert {session.status for session in lars.sessions} == {api_pb2.STATUS_SUCCESS}
    of_lars = [{value.name.tag: value.value for value in session.metric_values} for session in lars.sessions]
    assert sorted(values["final/test_accuracy"] for values in of_lars) == [0.25, 0.5]
    assert all(values["test/accuracy"] == 0.25 for values in of_lars)
    assert not any("validation" in tag for values in of_lars for tag in values), "a number that is not there stays blank"
    [of_sgd] = [value.value for value in sgd.sessions[0].metric_values if value.name.tag == "final/test_accuracy"]
    assert of_sgd == pytest.approx(0.125)


def test_a_run_that_goes_on_is_one_session(tmp_path):
    folder = RunFolder(tmp_path)
    settings = Settings(dataset="mnist5k", batch_size=500)
    folder.append_metrics([{"kind": "train", "step": 1, "loss": 2.0}])
    for done, (status, final) in enumerate([("interrupted", {}), ("done", {"test_accuracy": 0.5})]):
        journal = Journal(folder, settings, {})
        journal.go_on_after(done)
        journal.close(status, done + 1, final)
    [group] = groups_in(tmp_path)
    [session] = group.sessions
    assert session.status == api_pb2.STATUS_SUCCESS
