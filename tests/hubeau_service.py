"""A service that answers as Hub'Eau's hydrometry does, from rows that a test gives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.replay_server import Asked, ReplayServer, Reply, json_reply

AT = "/api/v2/hydrometrie"
STATION = "K447001001"
SITE = "K4470010"
Fields = dict[str, object]


def observation(time: str, value: object, **more: object) -> Fields:
    """Return one row of a station's height; ``time`` as ``2026-11-20T14:00:00Z``."""
    known: Fields = {
        "code_site": SITE,
        "code_station": STATION,
        "grandeur_hydro": "H",
        "date_debut_serie": "2026-11-20T00:00:00Z",
        "code_statut": 4,
        "libelle_statut": "Brute",
        "date_obs": time,
        "resultat_obs": value,
        "code_qualification_obs": 16,
        "libelle_qualification_obs": "Non qualifiée",
    }
    return {**known, **more}


@dataclass
class HubeauService:
    """Answers at a replay server; ``rows`` may change between polls. A page that is not the last is a 206."""

    server: ReplayServer
    rows: list[Fields] = field(default_factory=list)
    page_size: int = 20_000
    instead: list[Reply | None] = field(default_factory=list)
    """Answered to the next questions for observations, one each; None: as usual."""

    def __post_init__(self) -> None:
        self.server.on(f"{AT}/observations_tr", self._observations)
        self.server.on(f"{AT}/referentiel/stations", self._stations)

    @property
    def url(self) -> str:
        """Return its base address."""
        return f"{self.server.url}{AT}"

    def asked(self) -> list[Asked]:
        """Return the questions for observations so far."""
        return self.server.asked_at(f"{AT}/observations_tr")

    def _observations(self, asked: Asked) -> Reply:
        instead = self.instead.pop(0) if self.instead else None
        if instead is not None:
            return instead
        codes = asked.query["code_entite"].split(",")
        start, end = asked.query["date_debut_obs"], asked.query.get("date_fin_obs", "9999")
        found = sorted(
            (
                row
                for row in self.rows
                if (row["code_station"] in codes or row["code_site"] in codes)
                and start <= str(row["date_obs"]) <= end
                and str(row["grandeur_hydro"]) in asked.query["grandeur_hydro"]
            ),
            key=lambda row: str(row["date_obs"]),
        )
        at = int(asked.query.get("cursor", "0"))
        rest = "&".join(f"{name}={value}" for name, value in asked.query.items() if name != "cursor")
        more = at + self.page_size < len(found)
        # Behind their proxy the service believes that it is asked without TLS, at the usual port.
        link = f"http://127.0.0.1{AT}/observations_tr?{rest}&cursor={at + self.page_size}" if more else None
        page = {"count": len(found), "next": link, "api_version": "2.0.1", "data": found[at : at + self.page_size]}
        return json_reply(page, 206 if more else 200)

    def _stations(self, asked: Asked) -> Reply:
        codes = asked.query.get("code_station", "").split(",") if "code_station" in asked.query else [STATION]
        rows = [
            {
                "code_site": code[:8],
                "code_station": code,
                "libelle_station": "La Loire à Blois",
                "libelle_cours_eau": "La Loire",
                "longitude_station": 1.335,
                "latitude_station": 47.586,
            }
            for code in codes
        ]
        return json_reply({"count": len(rows), "next": None, "data": rows})
