"""Every loss as a pure function of embedding arrays; README.md here says which to use when.

Losses of rerankers, on arrays of scores, are in `jaxembed.losses.reranking`.
"""

from jaxembed.losses.batch_triplets import (
    batch_all_triplet_loss as batch_all_triplet_loss,
    batch_hard_soft_margin_triplet_loss as batch_hard_soft_margin_triplet_loss,
    batch_hard_triplet_loss as batch_hard_triplet_loss,
    batch_semi_hard_triplet_loss as batch_semi_hard_triplet_loss,
)
from jaxembed.losses.distillation import (
    distill_kl_div_loss as distill_kl_div_loss,
    embed_distill_loss as embed_distill_loss,
    margin_mse_loss as margin_mse_loss,
    mse_loss as mse_loss,
)
from jaxembed.losses.gist import gist_embed_loss as gist_embed_loss
from jaxembed.losses.late_interaction import (
    multi_vector_distill_kl_div_loss as multi_vector_distill_kl_div_loss,
    multi_vector_margin_mse_loss as multi_vector_margin_mse_loss,
    multi_vector_multiple_negatives_ranking_loss as multi_vector_multiple_negatives_ranking_loss,
)
from jaxembed.losses.mega_batch_margin import mega_batch_margin_loss as mega_batch_margin_loss
from jaxembed.losses.orthogonal_regularization import (
    global_orthogonal_regularization_loss as global_orthogonal_regularization_loss,
)
from jaxembed.losses.pair_order import angle_loss as angle_loss, cosent_loss as cosent_loss
from jaxembed.losses.pairs import (
    contrastive_loss as contrastive_loss,
    cosine_similarity_loss as cosine_similarity_loss,
    online_contrastive_loss as online_contrastive_loss,
    pair_features as pair_features,
    softmax_loss as softmax_loss,
)
from jaxembed.losses.ranking import (
    multiple_negatives_ranking_loss as multiple_negatives_ranking_loss,
    multiple_negatives_symmetric_ranking_loss as multiple_negatives_symmetric_ranking_loss,
)
from jaxembed.losses.reconstruction import (
    denoising_auto_encoder_loss as denoising_auto_encoder_loss,
)
from jaxembed.losses.sigmoid import sigmoid_loss as sigmoid_loss
from jaxembed.losses.sparse import (
    csr_loss as csr_loss,
    csr_reconstruction_loss as csr_reconstruction_loss,
    flops_loss as flops_loss,
    splade_loss as splade_loss,
)
from jaxembed.losses.sparse_auto_encoder import (
    SparseCode as SparseCode,
    init_sparse_auto_encoder as init_sparse_auto_encoder,
    sparse_auto_encode as sparse_auto_encode,
)
from jaxembed.losses.tension import (
    contrastive_tension_in_batch_negatives_loss as contrastive_tension_in_batch_negatives_loss,
    contrastive_tension_loss as contrastive_tension_loss,
)
from jaxembed.losses.triplets import triplet_loss as triplet_loss
