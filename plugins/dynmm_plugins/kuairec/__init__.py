"""Reader of KuaiRec."""
