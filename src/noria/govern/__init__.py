"""Governance: reads every record and answers the auditor's questions.

Takes the store; returns proofs and explanations; promises that a changed audit entry is found, and that any
prediction can be traced to model, data, code, environment and approver.
"""

from __future__ import annotations

from noria.govern.audit import AuditFinding, verify
from noria.govern.explain import Explanation, explain

__all__ = ["AuditFinding", "Explanation", "explain", "verify"]
