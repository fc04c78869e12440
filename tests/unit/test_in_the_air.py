"""Calls to the world that one release has begun and another one is to answer for."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from saga import Event, ExternalCall, Participant
from saga.failpoints import Failpoint, FailpointRaised, armed
from saga.participant import operator
from saga.protocol.facts import StepStatus
from tests import travel
from tests.travel import HotelBooked, HotelFreed, HotelFull, Script, harness, saga


class TripBooked(Event):
    """What only short trips fit."""

    trip: Annotated[str, Field(max_length=3)]


def stricter() -> Participant:
    hotels = Participant("hotels", saga(external=True))

    @hotels.step(step="hotel")
    def call_hotel(booked: TripBooked, call: ExternalCall) -> HotelBooked | HotelFull:
        return HotelBooked(trip=booked.trip)

    @hotels.compensation(of=call_hotel)
    def uncall_hotel(booked: HotelBooked, call: ExternalCall) -> HotelFreed:
        return HotelFreed(trip=booked.trip)

    return hotels


def test_a_call_whose_input_the_next_release_cannot_read_waits_for_an_operator_and_stops_nobody() -> None:
    with harness(Script(), partitions=1, external=True) as running:
        running.start(travel.TripBooked(trip="lisbon"), workflow_id="long")
        running.turn("agency")
        with armed(f"{Failpoint.EXTERNAL_INTENDED}:raise:1"), pytest.raises(FailpointRaised):
            running.turn("hotels")
        running.crash("hotels")

        running.deploy(stricter())
        running.start(travel.TripBooked(trip="rio"), workflow_id="short")
        running.settle()

        assert running.steps("short")["confirm"] is StepStatus.DONE
        workflow = running.workflow("hotels", "long")
        assert workflow is not None
        fence = workflow.fences["hotel"]
        assert operator.is_parked(fence)
        assert "its input travel.TripBooked is unreadable" in (fence.error or "")
