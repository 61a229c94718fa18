"""Papers that several entries cite."""

from unlearnable_bench.registry.contract import Paper

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

D_VAE = Paper(
    "Purify Unlearnable Examples via Rate-Constrained Variational Autoencoders",
    venue="ICML 2024",
    url="https://arxiv.org/abs/2405.01460",
    authors="Yi Yu, Yufei Wang, Song Xia, Wenhan Yang, Shijian Lu, Yap-Peng Tan, Alex C. Kot",
    year=2024,
)

STAGED_TRAINING = Paper(
    "Unlearnable Examples Give a False Sense of Data Privacy: Understanding and Relearning",
    venue="arXiv preprint",
    url="https://arxiv.org/abs/2306.02064",
    authors="Pucheng Dang, Xing Hu, Kaidi Xu, Jinhao Duan, Di Huang, Husheng Han, Rui Zhang, Zidong Du",
    year=2023,
)

STABLE_UNLEARNABLE = Paper(
    "Stable Unlearnable Example: Enhancing the Robustness of Unlearnable Examples via Stable Error-Minimizing Noise",
    venue="AAAI 2024",
    url="https://arxiv.org/abs/2311.13091",
    authors="Yixin Liu, Kaidi Xu, Xun Chen, Lichao Sun",
    year=2024,
)

TRANSFERABLE_UNLEARNABLE = Paper(
    "Transferable Unlearnable Examples",
    venue="ICLR 2023",
    url="https://arxiv.org/abs/2210.10114",
    authors="Jie Ren, Han Xu, Yuxuan Wan, Xingjun Ma, Lichao Sun, Jiliang Tang",
    year=2023,
)

APBENCH = Paper(
    "APBench: A Unified Benchmark for Availability Poisoning Attacks and Defenses",
    venue="TMLR 2024",
    url="https://arxiv.org/abs/2308.03258",
    authors="Tianrui Qin, Xitong Gao, Juanjuan Zhao, Kejiang Ye, Cheng-Zhong Xu",
    year=2024,
)

EM = Paper(
    "Unlearnable Examples: Making Personal Data Unexploitable",
    venue="ICLR 2021",
    url="https://arxiv.org/abs/2101.04898",
    authors="Hanxun Huang, Xingjun Ma, Sarah Monazam Erfani, James Bailey, Yisen Wang",
    year=2021,
)

OPS = Paper(
    "One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks",
    venue="ICLR 2023",
    url="https://arxiv.org/abs/2205.12141",
    authors="Shutong Wu, Sizhe Chen, Cihang Xie, Xiaolin Huang",
    year=2023,
)

DETECTION_AND_DEFENSE = Paper(
    "Detection and Defense of Unlearnable Examples",
    venue="AAAI 2024",
    url="https://arxiv.org/abs/2312.08898",
    authors="Yifan Zhu, Lijia Yu, Xiao-Shan Gao",
    year=2024,
)

AUE_AAP = Paper(
    "Efficient Availability Attacks against Supervised and Contrastive Learning Simultaneously",
    venue="NeurIPS 2024",
    url="https://arxiv.org/abs/2402.04010",
    authors="Yihan Wang, Yifan Zhu, Xiao-Shan Gao",
    year=2024,
)

ENTANGLED = Paper(
    "Is Adversarial Training Really a Silver Bullet for Mitigating Data Poisoning?",
    venue="ICLR 2023",
    url="https://openreview.net/forum?id=zKvm1ETDOq",
    authors="Rui Wen, Zhengyu Zhao, Zhuoran Liu, Michael Backes, Tianhao Wang, Yang Zhang",
    year=2023,
)

ECLIPSE = Paper(
    "ECLIPSE: Expunging Clean-label Indiscriminate Poisons via Sparse Diffusion Purification",
    venue="ESORICS 2024",
    url="https://arxiv.org/abs/2406.15093",
    authors="Xianlong Wang, Shengshan Hu, Yechao Zhang, Ziqi Zhou, Leo Yu Zhang, Peng Xu, Wei Wan, Hai Jin",
    year=2024,
)

BRIDGE_PURE = Paper(
    "BridgePure: Limited Protection Leakage Can Break Black-Box Data Protection",
    venue="NeurIPS 2025",
    url="https://arxiv.org/abs/2412.21061",
    authors="Yihan Wang, Yiwei Lu, Xiao-Shan Gao, Gautam Kamath, Yaoliang Yu",
    year=2025,
)

TRUE_UNLEARNABILITY = Paper(
    "How Far Are We from True Unlearnability?",
    venue="ICLR 2025",
    url="https://arxiv.org/abs/2509.08058",
    authors="Kai Ye, Liangcai Su, Chenxiong Qian",
    year=2025,
)

PUE = Paper(
    "Provably Unlearnable Data Examples",
    venue="NDSS 2025",
    url="https://arxiv.org/abs/2405.03316",
    authors="Derui Wang, Minhui Xue, Bo Li, Seyit Camtepe, Liming Zhu",
    year=2025,
)
