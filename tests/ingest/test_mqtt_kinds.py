"""The sections of sources that read from MQTT brokers: each option on its way, secrets masked, mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.axis_mqtt import AxisSource
from connectors.mqtt import MqttSource
from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.onvif_mqtt import OnvifSource
from connectors.sparkplug import SparkplugSource
from pipeline.config import effective, loads
from pipeline.config_errors import ConfigError
from pipeline.ingest.broker_options import BrokerOptions
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.mqtt import MqttOptions

HEAD = "streams:\n  - {name: air, topics: [air], step: 10m, channels: [{name: pm25}]}\ningest:\n  sources:\n"
WHOLE = """\
    - name: city
      kind: mqtt
      host: broker.example.org
      username: vedette
      password: very-hidden
      tls: {ca_file: ca.pem, cert_file: own.pem, key_file: own.key, key_password: also-hidden}
      mqtt: 3.1.1
      keepalive: 1m
      session_expiry: 2d
      presence: {topic: vedette/online}
      retained: take
      max_payload: 2MiB
      mappings:
        - topic: sensors/{entity}/{channel}
          value: $.v
          time: $.t
          epoch: ms
          missing: [-999]
          states: {open: 1}
        - topic: zigbee2mqtt/{entity}
          unit: Cel
          values:
            - {value: $.temperature, channel: temperature}
            - {value: $.humidity, channel: humidity, unit: "%"}
"""


def test_a_whole_section_becomes_a_source() -> None:
    """Protects every option on its way, and passwords from being shown."""
    config = loads(HEAD + WHOLE, {})
    shown = effective(config)
    assert "very-hidden" not in shown
    assert "also-hidden" not in shown
    (options,) = config.ingest.sources
    assert isinstance(options, MqttOptions)
    broker = options.broker()
    assert (broker.host, broker.port, broker.client_id) == ("broker.example.org", 8883, "vedette-city")
    assert (broker.username, broker.password, broker.version) == ("vedette", "very-hidden", 4)
    assert (broker.keepalive_s, broker.session_expiry_s) == (60, 172_800)
    assert broker.presence is not None
    assert (broker.presence.topic, broker.presence.offline) == ("vedette/online", b"offline")
    assert broker.tls is not None
    assert (broker.tls.ca_file, broker.tls.key_password) == (Path("ca.pem"), "also-hidden")
    assert [mapping.mapping() for mapping in options.mappings] == [
        MappingRule(
            topic="sensors/{entity}/{channel}",
            values=(ValueRule(value="$.v", time="$.t"),),
            epoch="ms",
            missing=(-999.0,),
            states={"open": 1.0},
        ),
        MappingRule(
            topic="zigbee2mqtt/{entity}",
            values=(
                ValueRule(value="$.temperature", channel="temperature", unit="Cel"),
                ValueRule(value="$.humidity", channel="humidity", unit="%"),
            ),
        ),
    ]


@pytest.mark.parametrize(
    ("section", "source"),
    [
        ("{name: a, kind: mqtt, host: h, mappings: [{topic: 's/{entity}/{channel}'}]}", MqttSource),
        ("{name: a, kind: sparkplug, host: h, groups: [plant], rebirths: false}", SparkplugSource),
        (
            "{name: a, kind: onvif, host: h, topics: ['cam/+/#'], resets: ['00:00'], time_zone: Asia/Kolkata}",
            OnvifSource,
        ),
        ("{name: a, kind: axis, host: h, occupancy: [Device1Scenario2], interval: 5m, tls: {}}", AxisSource),
    ],
)
def test_each_kind_builds_its_source(section: str, source: type) -> None:
    """Protects the shortest useful section of each kind."""
    (options,) = loads(f"{HEAD}    - {section}\n", {}).ingest.sources
    assert isinstance(options, BrokerOptions)
    assert options.broker().version is None
    assert isinstance(source_kinds()[options.kind].build(options, SourcePlace(Path("x"), {})), source)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{name: a, kind: mqtt, mappings: [{topic: s}]}", "host: is missing"),
        ("{name: a, kind: mqtt, host: h}", "mappings: is missing"),
        ("{name: a, kind: mqtt, host: h, mappings: []}", "mappings"),
        ("{name: a, kind: mqtt, host: h, mappings: [{topic: 's/#/x'}]}", "# is allowed as the last level only"),
        ("{name: a, kind: mqtt, host: h, mappings: [{topic: 's/{entity}', value: v}]}", "is no path"),
        ("{name: a, kind: mqtt, host: h, mappings: [{topic: 's/{entity}', value: $.v}]}", "no channel"),
        ("{name: a, kind: mqtt, host: h, mappings: [{topic: s, time_zone: Mars}]}", "no time zone"),
        (
            "{name: a, kind: mqtt, host: h, mappings: [{topic: s, value: $.v, values: [{value: $.w}]}]}",
            "either one kind of value, or a list",
        ),
        ("{name: a, kind: mqtt, host: h, password: p, mappings: [{topic: s}]}", "password without username"),
        ("{name: a, kind: sparkplug, host: h, groups: [a/b]}", "is no group id"),
        ("{name: a, kind: onvif, host: h, resets: [noon]}", "HH:MM"),
        ("{name: a, kind: onvif, host: h, time_zone: Mars}", "no time zone"),
        ("{name: a, kind: axis, host: h, interval: 7m}", "does not divide a day"),
        ("{name: a, kind: axis, host: h, topics: ['axis/{serial}/#']}", "has names in it"),
    ],
)
def test_mistakes_are_named(section: str, said: str) -> None:
    """Protects a person: the place and what is allowed are told when the config is read."""
    with pytest.raises(ConfigError) as caught:
        loads(f"{HEAD}    - {section}\n", {})
    assert said in str(caught.value)
    assert "sources[0]" in str(caught.value)
