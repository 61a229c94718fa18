"""Papers that several entries cite."""

from registry.contract import Paper

ISS = Paper(
    "Image Shortcut Squeezing: Countering Perturbative Availability Poisons with Compression",
    venue="ICML 2023",
    url="https://arxiv.org/abs/2301.13838",
    authors="Zhuoran Liu, Zhengyu Zhao, Martha Larson",
    year=2023,
)

LEARN_FROM_UNLEARNABLE = Paper(
    "What Can We Learn from Unlearnable Datasets?",
    venue="NeurIPS 2023",
    url="https://arxiv.org/abs/2305.19254",
    authors="Pedro Sandoval-Segura, Vasu Singla, Jonas Geiping, Micah Goldblum, Tom Goldstein",
    year=2023,
)
